//! Who imports whom among the modules of one folder, and the circles in it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::imports::references;
use super::module_tree::{Crate, ModulePath};

/// Importer → imported → where it is imported (`file:line`).
pub(super) type Edges = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// The modules directly below one module, with the imports between them. Whatever lies below one of them counts for it.
#[derive(Debug)]
pub(super) struct Level {
    /// The module whose children these are.
    pub(super) parent: ModulePath,
    pub(super) edges: Edges,
}

/// A circle: the modules in their order, each with the places where it imports the next.
pub(super) type Circle = Vec<(String, Vec<String>)>;

/// The graph of imports at every level of a crate.
///
/// An import makes an edge between the two ancestors, importer's and imported's, that are siblings. Importing from an
/// ancestor or from a descendant makes none.
pub(super) fn levels(of: &Crate, relative_to: &std::path::Path) -> Vec<Level> {
    let mut levels: BTreeMap<ModulePath, Edges> = BTreeMap::new();
    for module in of.modules.values() {
        let file = module.file.strip_prefix(relative_to).unwrap_or(&module.file);
        for reference in references(module) {
            let Some(target) = of.resolve(&module.path, &reference.written) else {
                continue;
            };
            let shared = module
                .path
                .iter()
                .zip(&target)
                .take_while(|(a, b)| a == b)
                .count();
            let (Some(from), Some(to)) = (module.path.get(shared), target.get(shared)) else {
                continue;
            };
            let level = levels.entry(module.path[..shared].to_vec()).or_default();
            let places = level
                .entry(from.clone())
                .or_default()
                .entry(to.clone())
                .or_default();
            let place = format!("{}:{}", file.display(), reference.line);
            if !places.contains(&place) {
                places.push(place);
            }
        }
    }
    levels
        .into_iter()
        .map(|(parent, edges)| Level { parent, edges })
        .collect()
}

/// For each import that is part of a circle, the shortest circle through it; each circle once.
pub(super) fn circles(edges: &Edges) -> Vec<Circle> {
    let mut seen = BTreeSet::new();
    let mut circles = Vec::new();
    for (from, targets) in edges {
        for to in targets.keys() {
            let Some(way) = shortest_way(edges, to, from) else {
                continue;
            };
            let members: BTreeSet<&String> = way.iter().collect();
            if !seen.insert(members.into_iter().cloned().collect::<Vec<_>>()) {
                continue;
            }
            // The way leads from `to` to `from`; the import itself closes it.
            let ring = way.iter().zip(way.iter().cycle().skip(1));
            circles.push(
                ring.map(|(one, next)| (one.clone(), edges[one][next].clone()))
                    .collect(),
            );
        }
    }
    circles
}

fn shortest_way(edges: &Edges, start: &str, end: &str) -> Option<Vec<String>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut next = VecDeque::from([start]);
    while let Some(node) = next.pop_front() {
        if node == end {
            let mut way = vec![node.to_owned()];
            let mut at = node;
            while at != start {
                at = came_from[at];
                way.insert(0, at.to_owned());
            }
            return Some(way);
        }
        for target in edges.get(node).into_iter().flat_map(BTreeMap::keys) {
            if target != start && !came_from.contains_key(target.as_str()) {
                came_from.insert(target, node);
                next.push_back(target);
            }
        }
    }
    None
}
