//! What a module refers to: its imports, and the paths in its types, expressions, macros and attributes.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Block, ItemMod, ItemUse, Macro, Stmt};

use super::module_tree::{Module, is_test_only, leaves};

/// A path as it is written, with its line.
#[derive(Debug)]
pub(super) struct Reference {
    pub(super) written: Vec<String>,
    pub(super) line: usize,
}

/// All references of a module, those of its child modules left out.
pub(super) fn references(module: &Module) -> Vec<Reference> {
    let mut found = Found(Vec::new());
    for item in &module.items {
        found.visit_item(item);
    }
    found.0
}

struct Found(Vec<Reference>);

impl Found {
    fn push(&mut self, written: Vec<String>, span: Span) {
        let line = span.start().line;
        self.0.push(Reference { written, line });
    }

    /// Finds `a::b::c` among tokens that no parser has read.
    fn scan(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.scan(group.stream()),
                TokenTree::Ident(first) => {
                    let mut written = vec![first.to_string()];
                    while let Some(TokenTree::Ident(next)) = tokens.get(at + 3)
                        && is_colon(&tokens[at + 1])
                        && is_colon(&tokens[at + 2])
                    {
                        written.push(next.to_string());
                        at += 3;
                    }
                    if written.len() > 1 {
                        self.push(written, first.span());
                    }
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            at += 1;
        }
    }
}

fn is_colon(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == ':')
}

impl<'ast> Visit<'ast> for Found {
    fn visit_item_use(&mut self, import: &'ast ItemUse) {
        for (_, written) in leaves(&import.tree) {
            self.push(written, import.use_token.span);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 && path.leading_colon.is_none() {
            let written = path.segments.iter().map(|segment| segment.ident.to_string());
            self.push(written.collect(), path.segments[0].ident.span());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.visit_path(&call.path);
        self.scan(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.scan(list.tokens.clone());
        }
    }

    fn visit_block(&mut self, block: &'ast Block) {
        for statement in &block.stmts {
            if let Stmt::Item(syn::Item::Mod(inner)) = statement
                && inner.attrs.iter().any(is_test_only)
            {
                continue;
            }
            self.visit_stmt(statement);
        }
    }

    fn visit_item_mod(&mut self, _: &'ast ItemMod) {}
}
