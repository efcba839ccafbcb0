//! The modules of one crate, as its source files declare them: children, imports under their local names, items.
//!
//! Only text is read; nothing is compiled. Modules under `#[cfg(test)]` are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::{Attribute, Item, UseTree};

/// The path of a module below its crate's root: `["http", "auth"]`.
pub(super) type ModulePath = Vec<String>;

/// One module: a file, a folder with its `mod.rs`, or a block inside a file.
pub(super) struct Module {
    pub(super) path: ModulePath,
    pub(super) file: PathBuf,
    pub(super) children: BTreeSet<String>,
    /// What `use` brings into scope: local name → path as it is written.
    pub(super) aliases: BTreeMap<String, Vec<String>>,
    /// The paths of `use x::*`.
    pub(super) globs: Vec<Vec<String>>,
    pub(super) items: Vec<Item>,
    /// Names that are defined here.
    pub(super) defined: BTreeSet<String>,
}

/// All modules of a crate.
pub(super) struct Crate {
    pub(super) modules: BTreeMap<ModulePath, Module>,
}

impl Crate {
    /// Reads the crate whose root (`lib.rs`, else `main.rs`) lies in `source`.
    pub(super) fn read(source: &Path) -> Self {
        let root = ["lib.rs", "main.rs"]
            .into_iter()
            .map(|file| source.join(file))
            .find(|file| file.exists())
            .unwrap_or_else(|| panic!("{} has no root", source.display()));
        let mut this = Self {
            modules: BTreeMap::new(),
        };
        this.read_file(&root, source, Vec::new());
        this
    }

    fn read_file(&mut self, file: &Path, folder: &Path, path: ModulePath) {
        let text = std::fs::read_to_string(file).unwrap();
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.add(file, folder, path, parsed.items);
    }

    fn add(&mut self, file: &Path, folder: &Path, path: ModulePath, items: Vec<Item>) {
        let mut module = Module {
            path: path.clone(),
            file: file.to_owned(),
            children: BTreeSet::new(),
            aliases: BTreeMap::new(),
            globs: Vec::new(),
            items: Vec::new(),
            defined: BTreeSet::new(),
        };
        for item in items {
            if attributes(&item).iter().any(is_test_only) {
                continue;
            }
            match item {
                Item::Mod(child) => {
                    let name = child.ident.to_string();
                    let below = [path.clone(), vec![name.clone()]].concat();
                    module.children.insert(name.clone());
                    let inner = folder.join(&name);
                    if let Some((_, items)) = child.content {
                        self.add(file, &inner, below, items);
                    } else {
                        let flat = folder.join(format!("{name}.rs"));
                        let nested = inner.join("mod.rs");
                        self.read_file(if flat.exists() { &flat } else { &nested }, &inner, below);
                    }
                }
                item => {
                    if let Item::Use(import) = &item {
                        for (local, written) in leaves(&import.tree) {
                            match local {
                                Some(local) => drop(module.aliases.insert(local, written)),
                                None => module.globs.push(written),
                            }
                        }
                    }
                    module.defined.extend(defined_name(&item));
                    module.items.push(item);
                }
            }
        }
        self.modules.insert(path, module);
    }

    /// The module that defines what `written` means inside the module `from`; `None` for other crates and local names.
    pub(super) fn resolve(&self, from: &[String], written: &[String]) -> Option<ModulePath> {
        self.resolve_at(from, written, 0)
    }

    fn resolve_at(&self, from: &[String], written: &[String], depth: usize) -> Option<ModulePath> {
        // A name that is re-exported in a circle of its own would never end.
        if depth > 16 {
            return None;
        }
        let (first, mut rest) = written.split_first()?;
        let mut current: ModulePath = match first.as_str() {
            "crate" => Vec::new(),
            "self" => from.to_vec(),
            "super" => from.split_last()?.1.to_vec(),
            name => {
                let module = self.modules.get(from)?;
                if module.children.contains(name) && (!rest.is_empty() || !module.aliases.contains_key(name))
                {
                    [from, &[name.to_owned()]].concat()
                } else {
                    let alias = module.aliases.get(name)?;
                    if alias == written {
                        return None;
                    }
                    return self.resolve_at(from, &[alias, rest].concat(), depth + 1);
                }
            }
        };
        while let Some((name, after)) = rest.split_first() {
            if name == "super" {
                current.pop()?;
                rest = after;
                continue;
            }
            let module = self.modules.get(&current)?;
            let is_child = module.children.contains(name);
            if let Some(alias) = module.aliases.get(name)
                && (!is_child || after.is_empty())
            {
                let longer = [alias, after].concat();
                // A re-export of another crate's item belongs to the module that re-exports it.
                return self.resolve_at(&current, &longer, depth + 1).or(Some(current));
            }
            if !is_child {
                return Some(self.behind_glob(&current, name, depth).unwrap_or(current));
            }
            current.push(name.clone());
            rest = after;
        }
        Some(current)
    }

    /// The module that `name` comes from, if `module` has it by a glob re-export only.
    fn behind_glob(&self, module: &[String], name: &str, depth: usize) -> Option<ModulePath> {
        let here = self.modules.get(module)?;
        if here.defined.contains(name) {
            return None;
        }
        here.globs.iter().find_map(|glob| {
            let target = self.resolve_at(module, glob, depth + 1)?;
            self.modules[&target].defined.contains(name).then_some(target)
        })
    }
}

/// Each name of a `use` tree with its whole path; `None` stands for a glob.
pub(super) fn leaves(tree: &UseTree) -> Vec<(Option<String>, Vec<String>)> {
    match tree {
        UseTree::Path(path) => {
            let name = path.ident.to_string();
            let below = leaves(&path.tree).into_iter();
            below
                .map(|(local, rest)| {
                    // `use a::b::{self}` names `b`.
                    if rest == ["self"] {
                        let local = local
                            .filter(|local| local != "self")
                            .unwrap_or_else(|| name.clone());
                        return (Some(local), vec![name.clone()]);
                    }
                    (local, [vec![name.clone()], rest].concat())
                })
                .collect()
        }
        UseTree::Name(name) => vec![(Some(name.ident.to_string()), vec![name.ident.to_string()])],
        UseTree::Rename(rename) => vec![(Some(rename.rename.to_string()), vec![rename.ident.to_string()])],
        UseTree::Glob(_) => vec![(None, Vec::new())],
        UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
    }
}

/// Whether it is compiled for tests only.
pub(super) fn is_test_only(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute
            .parse_args::<syn::Ident>()
            .is_ok_and(|condition| condition == "test")
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Mod(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        _ => &[],
    }
}

fn defined_name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}
