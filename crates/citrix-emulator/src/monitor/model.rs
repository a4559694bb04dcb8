//! Entity sets with typed properties, and their description (OData CSDL 4.01).
//!
//! A row is its index: properties are functions of it, and navigations lead to the index of another
//! row. Everything that the service knows of an entity set derives from its [`EntitySet`].

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::primitive::{EdmType, Primitive};
use super::query_error::QueryError;

/// An OData service.
pub(super) struct Service {
    pub(super) namespace: &'static str,
    pub(super) sets: &'static [&'static EntitySet],
}

/// An entity set. The first property is the key.
pub(super) struct EntitySet {
    pub(super) name: &'static str,
    /// Name of its entity type.
    pub(super) kind: &'static str,
    /// Number of rows.
    pub(super) rows: usize,
    pub(super) properties: &'static [Property],
    pub(super) navigations: &'static [Navigation],
}

/// A property with its type and its value in the row at an index.
pub(super) struct Property {
    pub(super) name: &'static str,
    pub(super) kind: EdmType,
    pub(super) value: fn(usize) -> Primitive,
}

/// A navigation property that leads from the row at an index to one row of another set.
pub(super) struct Navigation {
    pub(super) name: &'static str,
    pub(super) target: &'static EntitySet,
    pub(super) index: fn(usize) -> usize,
}

pub(super) const fn property(
    name: &'static str,
    kind: EdmType,
    value: fn(usize) -> Primitive,
) -> Property {
    Property { name, kind, value }
}

pub(super) const fn navigation(
    name: &'static str,
    target: &'static EntitySet,
    index: fn(usize) -> usize,
) -> Navigation {
    Navigation {
        name,
        target,
        index,
    }
}

impl Service {
    /// Returns the entity set of a path segment, and the key in `Machines(key)`.
    pub(super) fn addressed<'p>(
        &self,
        segment: &'p str,
    ) -> Option<(&'static EntitySet, Option<&'p str>)> {
        let (name, key) = match segment.split_once('(') {
            Some((name, rest)) => (name, Some(rest.strip_suffix(')')?)),
            None => (segment, None),
        };
        let set = self
            .sets
            .iter()
            .find(|set| set.name.eq_ignore_ascii_case(name))?;
        Some((set, key))
    }

    /// Returns the description of the service in XML.
    pub(super) fn metadata(&self) -> String {
        let namespace = self.namespace;
        let mut xml = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
             <edmx:Edmx Version=\"4.0\" xmlns:edmx=\"http://docs.oasis-open.org/odata/ns/edmx\">\n\
             <edmx:DataServices>\n\
             <Schema Namespace=\"{namespace}\" xmlns=\"http://docs.oasis-open.org/odata/ns/edm\">\n"
        );
        for set in self.sets {
            set.describe_type(namespace, &mut xml);
        }
        xml.push_str("<EntityContainer Name=\"Container\">\n");
        for set in self.sets {
            set.describe(namespace, &mut xml);
        }
        xml.push_str("</EntityContainer>\n</Schema>\n</edmx:DataServices>\n</edmx:Edmx>\n");
        xml
    }
}

impl EntitySet {
    /// Returns the property `name`. Names are case-sensitive.
    pub(super) fn property(&self, name: &str) -> Result<&'static Property, QueryError> {
        self.properties
            .iter()
            .find(|property| property.name == name)
            .ok_or_else(|| self.no_property(name))
    }

    /// Returns the navigation property `name`.
    pub(super) fn navigation(&self, name: &str) -> Result<&'static Navigation, QueryError> {
        self.navigations
            .iter()
            .find(|navigation| navigation.name == name)
            .ok_or_else(|| self.no_property(name))
    }

    fn no_property(&self, name: &str) -> QueryError {
        QueryError::NoProperty {
            name: name.to_owned(),
            kind: self.kind,
        }
    }

    fn key(&self) -> &'static Property {
        &self.properties[0]
    }

    /// Returns the key of the row at `index` as a literal.
    pub(super) fn key_of(&self, index: usize) -> String {
        (self.key().value)(index).literal()
    }

    /// Returns the index of the row with a key in the notation `key` or `name=key`.
    pub(super) fn find(&self, key: &str) -> Option<usize> {
        let property = self.key();
        let named = key
            .strip_prefix(property.name)
            .and_then(|rest| rest.strip_prefix('='));
        let key = Primitive::parse(named.unwrap_or(key))?;
        (0..self.rows).find(|&index| (property.value)(index) == key)
    }

    /// Returns the row at `index`; all properties if none are selected.
    pub(super) fn row(&self, index: usize, selected: &[&Property]) -> Map<String, Value> {
        let is_selected = |property: &&Property| {
            selected.is_empty() || selected.iter().any(|other| other.name == property.name)
        };
        self.properties
            .iter()
            .filter(is_selected)
            .map(|property| (property.name.to_owned(), (property.value)(index).to_json()))
            .collect()
    }

    fn describe_type(&self, namespace: &str, xml: &mut String) {
        // Writing to a string does not fail.
        let _ = writeln!(xml, "<EntityType Name=\"{}\">", self.kind);
        for (position, Property { name, kind, .. }) in self.properties.iter().enumerate() {
            let kind = kind.name();
            let _ = if position == 0 {
                writeln!(
                    xml,
                    "<Key><PropertyRef Name=\"{name}\" /></Key>\n\
                     <Property Name=\"{name}\" Type=\"{kind}\" Nullable=\"false\" />"
                )
            } else {
                writeln!(xml, "<Property Name=\"{name}\" Type=\"{kind}\" />")
            };
        }
        for Navigation { name, target, .. } in self.navigations {
            let kind = target.kind;
            let _ = writeln!(
                xml,
                "<NavigationProperty Name=\"{name}\" Type=\"{namespace}.{kind}\" />"
            );
        }
        xml.push_str("</EntityType>\n");
    }

    fn describe(&self, namespace: &str, xml: &mut String) {
        let Self { name, kind, .. } = self;
        let _ = writeln!(
            xml,
            "<EntitySet Name=\"{name}\" EntityType=\"{namespace}.{kind}\">"
        );
        for Navigation { name, target, .. } in self.navigations {
            let target = target.name;
            let _ = writeln!(
                xml,
                "<NavigationPropertyBinding Path=\"{name}\" Target=\"{target}\" />"
            );
        }
        xml.push_str("</EntitySet>\n");
    }
}

/// A property of a row, or of the row that navigations lead to: `Name`, `Machine/Name`.
pub(super) struct PropertyPath {
    navigations: Vec<&'static Navigation>,
    pub(super) property: &'static Property,
}

impl PropertyPath {
    pub(super) fn parse(text: &str, set: &'static EntitySet) -> Result<Self, QueryError> {
        let mut set = set;
        let mut navigations = Vec::new();
        let mut rest = text;
        while let Some((name, after)) = rest.split_once('/') {
            let navigation = set.navigation(name)?;
            navigations.push(navigation);
            set = navigation.target;
            rest = after;
        }
        Ok(Self {
            navigations,
            property: set.property(rest)?,
        })
    }

    /// Returns the value for the row at `index`.
    pub(super) fn value(&self, index: usize) -> Primitive {
        let lead = |index, navigation: &&Navigation| (navigation.index)(index);
        (self.property.value)(self.navigations.iter().fold(index, lead))
    }
}
