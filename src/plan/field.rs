//! Names of fields of a plan file, as `hosts[2].roles`, and the way from a name to its place.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::yaml::{Node, NodeKind, Place};

/// A field of a plan file, from the top.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldPath(Vec<Segment>);

/// One part of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Key(String),
    Index(usize),
}

/// The field of that name at the top of the file.
#[must_use]
pub fn field(name: &str) -> FieldPath {
    FieldPath::default().key(name)
}

impl FieldPath {
    /// The field `name` below this one.
    #[must_use]
    pub fn key(&self, name: &str) -> Self {
        let mut path = self.clone();
        path.0.push(Segment::Key(name.to_owned()));
        path
    }

    /// The item `index` (from 0) of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        let mut path = self.clone();
        path.0.push(Segment::Index(index));
        path
    }

    /// The field that this is a part of; none for a field at the top.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        match self.0.split_last() {
            Some((_, above)) if !above.is_empty() => Some(Self(above.to_vec())),
            _ => None,
        }
    }

    /// Whether this is `other` or a field below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// Takes the field out of a document; a list is taken out whole if one of its items is meant.
    /// Returns what was taken out.
    pub fn remove_from(&self, document: &mut Value) -> Self {
        let keys = self.0.iter().rposition(|segment| matches!(segment, Segment::Key(_))).map_or(0, |last| last + 1);
        let path = Self(self.0[..keys].to_vec());
        let mut at = document;
        for (position, segment) in path.0.iter().enumerate() {
            let below = match segment {
                Segment::Key(key) if position + 1 == keys => {
                    at.as_object_mut().and_then(|object| object.shift_remove(key));
                    return path;
                }
                Segment::Key(key) => at.get_mut(key),
                Segment::Index(index) => at.get_mut(index),
            };
            let Some(below) = below else { return path };
            at = below;
        }
        path
    }

    /// The node at this path, or the place of the nearest field above it that is in the file.
    #[must_use]
    pub fn place(&self, root: &Node) -> Place {
        let (mut node, mut place) = (root, root.place);
        for segment in &self.0 {
            match (segment, &node.kind) {
                (Segment::Key(name), NodeKind::Mapping(entries)) => {
                    let Some((_, at, value)) = entries.iter().find(|(key, ..)| key == name) else { return place };
                    (node, place) = (value, if value.is_written_in_line() { value.place } else { *at });
                }
                (Segment::Index(index), NodeKind::List(items)) => {
                    let Some(item) = items.get(*index) else { return place };
                    (node, place) = (item, item.first_place());
                }
                _ => return place,
            }
        }
        place
    }
}

impl Node {
    /// Whether the node has an extent that can be marked.
    fn is_written_in_line(&self) -> bool {
        matches!(self.kind, NodeKind::Scalar(_)) && self.place.end > self.place.start
    }

    /// What to mark for a list item: for a mapping its first key, since it has no extent itself.
    fn first_place(&self) -> Place {
        match &self.kind {
            NodeKind::Mapping(entries) => entries.first().map_or(self.place, |(_, place, _)| *place),
            _ => self.place,
        }
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) if is_plain(key) => write!(f, "{}{key}", if position == 0 { "" } else { "." })?,
                Segment::Key(key) => write!(f, "[{key:?}]")?,
            }
        }
        Ok(())
    }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

impl Serialize for FieldPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::read_strictly;

    #[test]
    fn paths_lead_to_the_nearest_place_in_the_file() {
        let root = read_strictly("a:\n  b: [1, 2]\nlist:\n  - name: x\n    other: y\n").unwrap();
        let line_and_column = |path: FieldPath| {
            let place = path.place(&root);
            (place.line, place.column)
        };
        assert_eq!(line_and_column(field("a").key("b").index(1)), (2, 10));
        assert_eq!(line_and_column(field("a").key("missing").key("c")), (1, 1));
        assert_eq!(line_and_column(field("list").index(0)), (4, 5));
        assert_eq!(line_and_column(field("list").index(0).key("other")), (5, 12));
    }

    #[test]
    fn paths_read_like_field_names() {
        assert_eq!(field("hosts").index(2).key("labels").key("a.b/c").to_string(), r#"hosts[2].labels["a.b/c"]"#);
    }
}
