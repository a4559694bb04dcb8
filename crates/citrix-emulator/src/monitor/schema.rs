//! Entity sets, their properties, and the metadata that describes them (OData CSDL 4.01).

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::ROWS;
use crate::responses::synthetic_id;

/// An OData service.
pub(super) struct Service {
    namespace: &'static str,
    pub(super) sets: &'static [EntitySet],
}

/// An entity set. All have the same properties.
pub(super) struct EntitySet {
    pub(super) name: &'static str,
    /// Name of its entity type.
    kind: &'static str,
}

/// A property with its primitive type.
pub(super) struct Property {
    name: &'static str,
    kind: &'static str,
}

pub(super) const MONITOR: Service = Service {
    namespace: "Citrix.Monitor",
    sets: &[
        set("Machines", "Machine"),
        set("Sessions", "Session"),
        set("Connections", "Connection"),
        set("Users", "User"),
        set("DesktopGroups", "DesktopGroup"),
        set("Applications", "Application"),
    ],
};

pub(super) const ANALYTICS: Service = Service {
    namespace: "Citrix.Analytics",
    sets: &[
        set("sessions", "session"),
        set("machines", "machine"),
        set("users", "user"),
    ],
};

const KEY: &str = "Id";
const PROPERTIES: [Property; 7] = [
    property(KEY, "Edm.Guid"),
    property("Name", "Edm.String"),
    property("DnsName", "Edm.String"),
    property("CurrentRegistrationState", "Edm.Int32"),
    property("LifecycleState", "Edm.Int32"),
    property("CreatedDate", "Edm.DateTimeOffset"),
    property("ModifiedDate", "Edm.DateTimeOffset"),
];

const fn set(name: &'static str, kind: &'static str) -> EntitySet {
    EntitySet { name, kind }
}

const fn property(name: &'static str, kind: &'static str) -> Property {
    Property { name, kind }
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
        let mut xml = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
             <edmx:Edmx Version=\"4.0\" xmlns:edmx=\"http://docs.oasis-open.org/odata/ns/edmx\">\n\
             <edmx:DataServices>\n\
             <Schema Namespace=\"{}\" xmlns=\"http://docs.oasis-open.org/odata/ns/edm\">\n",
            self.namespace
        );
        for set in self.sets {
            // Writing to a string does not fail.
            let _ = writeln!(
                xml,
                "<EntityType Name=\"{}\">\n<Key><PropertyRef Name=\"{KEY}\" /></Key>",
                set.kind
            );
            for Property { name, kind } in &PROPERTIES {
                let nullable = if *name == KEY {
                    " Nullable=\"false\""
                } else {
                    ""
                };
                let _ = writeln!(
                    xml,
                    "<Property Name=\"{name}\" Type=\"{kind}\"{nullable} />"
                );
            }
            xml.push_str("</EntityType>\n");
        }
        xml.push_str("<EntityContainer Name=\"Container\">\n");
        for EntitySet { name, kind } in self.sets {
            let _ = writeln!(
                xml,
                "<EntitySet Name=\"{name}\" EntityType=\"{}.{kind}\" />",
                self.namespace
            );
        }
        xml.push_str("</EntityContainer>\n</Schema>\n</edmx:DataServices>\n</edmx:Edmx>\n");
        xml
    }
}

impl EntitySet {
    /// Returns the property `name`. Names are case-sensitive.
    pub(super) fn property(&self, name: &str) -> Option<&'static Property> {
        PROPERTIES.iter().find(|property| property.name == name)
    }

    /// Returns the row at `index`.
    pub(super) fn row(&self, index: usize) -> Map<String, Value> {
        let values = [
            json!(synthetic_id(3, index)),
            json!(format!("ACME\\{}-{index:04}", self.name)),
            json!(format!("vda-{index:04}.acme.example")),
            json!(1),
            json!(0),
            json!("2025-01-15T08:30:00Z"),
            json!("2025-01-15T08:30:00Z"),
        ];
        let names = PROPERTIES.iter().map(|property| property.name.to_owned());
        names.zip(values).collect()
    }

    /// Returns the row with this key.
    pub(super) fn find(&self, key: &str) -> Option<Map<String, Value>> {
        let is_it = |index: &usize| synthetic_id(3, *index).eq_ignore_ascii_case(key);
        (0..ROWS).find(is_it).map(|index| self.row(index))
    }
}
