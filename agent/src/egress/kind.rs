//! The kinds of alerts: each has a fixed `MESSAGE_ID` (systemd.journal-fields(7)), by which the journal is filtered and
//! the catalog finds its explanation.

/// A kind of alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Somebody tried to reach the model without the proxy.
    WayIn,
    /// A held process was refused a destination.
    Refused,
    /// A process tried to take the model's port.
    Port,
    /// The guard has a gap.
    GapBegan,
    /// The gap is closed.
    GapEnded,
    /// A program of somebody else could overrule the guard.
    Stranger,
    /// Whose socket took the proxy's connection is not the model.
    Impostor,
    /// A dataset that decides is older than it may be.
    Stale,
    /// A held process reached a destination that enforcing would have refused.
    WouldRefuse,
    /// A workload asks for names as a tunnel does.
    Tunnel,
    /// More different refusals at once than are told apart.
    Many,
    /// Alerts that the journal did not take in time.
    Lost,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::WayIn,
        Self::Refused,
        Self::Port,
        Self::GapBegan,
        Self::GapEnded,
        Self::Stranger,
        Self::Impostor,
        Self::Stale,
        Self::WouldRefuse,
        Self::Tunnel,
        Self::Many,
        Self::Lost,
    ];

    /// Its fixed id.
    #[must_use]
    pub const fn message_id(self) -> &'static str {
        match self {
            Self::WayIn => "6b1f4e0c3a5d4c0c9f5a2b7d8e914c01",
            Self::Refused => "6b1f4e0c3a5d4c0c9f5a2b7d8e914c02",
            Self::Port => "6b1f4e0c3a5d4c0c9f5a2b7d8e914c03",
            Self::GapBegan => "6b1f4e0c3a5d4c0c9f5a2b7d8e914c04",
            Self::GapEnded => "6b1f4e0c3a5d4c0c9f5a2b7d8e914c05",
            Self::Stranger => "6b1f4e0c3a5d4c0c9f5a2b7d8e914c06",
            Self::Impostor => "6b1f4e0c3a5d4c0c9f5a2b7d8e914c07",
            Self::Stale => "9f0c6a5b2d7e4f18b3c19a4e57d2806d",
            Self::WouldRefuse => "6b1f4e0c3a5d4c0c9f5a2b7d8e914c20",
            Self::Tunnel => "6b1f4e0c3a5d4c0c9f5a2b7d8e914c21",
            Self::Many => "6b1f4e0c3a5d4c0c9f5a2b7d8e914c22",
            Self::Lost => "6b1f4e0c3a5d4c0c9f5a2b7d8e914c23",
        }
    }

    /// Its word in `bailiwick alerts`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WayIn => "way-in",
            Self::Refused => "refused",
            Self::Port => "port",
            Self::GapBegan => "gap",
            Self::GapEnded => "gap-closed",
            Self::Stranger => "foreign-program",
            Self::Impostor => "impostor",
            Self::Stale => "stale",
            Self::WouldRefuse => "would-refuse",
            Self::Tunnel => "tunnel",
            Self::Many => "many",
            Self::Lost => "lost",
        }
    }

    /// The kind of a journal entry.
    #[must_use]
    pub fn of(message_id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.message_id() == message_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_journals_catalog_explains_every_kind_and_nothing_else() {
        let catalog = include_str!("../../../config/journal/bailiwick.catalog");
        for kind in Kind::ALL {
            let id = kind.message_id();
            assert!(catalog.contains(&format!("-- {id}\n")), "{kind:?}");
            assert_eq!(Kind::of(id), Some(kind));
        }
        assert_eq!(catalog.matches("\n-- ").count(), Kind::ALL.len(), "and nothing else");
        let words: BTreeSet<&str> = Kind::ALL.into_iter().map(Kind::as_str).collect();
        assert_eq!(words.len(), Kind::ALL.len(), "a word of its own for each");
    }
}
