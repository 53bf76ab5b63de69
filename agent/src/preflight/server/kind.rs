//! What a setting is about, and which law it bears on.

use serde::{Deserialize, Serialize};

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal: $law:literal, $why:literal,)+) => {
        /// What an unsafe setting is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub(super) enum Kind { $($(#[$doc])* $variant,)+ }

        impl Kind {
            /// As in reports.
            pub(super) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The law that it bears on.
            pub(super) const fn law(self) -> &'static str {
                match self { $(Self::$variant => $law,)+ }
            }

            /// Why.
            pub(super) const fn why(self) -> &'static str {
                match self { $(Self::$variant => $why,)+ }
            }
        }
    };
}

kinds! {
    /// Endpoints that change or stop the server, or show its inside.
    AdminEndpoints = "admin-endpoints": "1 (only way in)",
        "whoever reaches the port can change, stop or look into the server; the guard and the proxy's list of endpoints alone keep them away",
    /// The server fetches what requests name.
    RemoteMedia = "remote-media": "2 (unknown means no)",
        "a request can make the server connect where the caller likes, or read files of the host",
    /// Models that run elsewhere.
    CloudModels = "cloud-models": "2 (unknown means no)",
        "the prompts of such a model leave for another host",
    /// Reports to others.
    Telemetry = "telemetry": "2 (unknown means no)",
        "the server connects abroad by itself",
    /// Weights, tokenizers and code from a hub.
    Downloads = "downloads": "2 (unknown means no)",
        "the server connects to a hub of models by itself, and what it gets there can change",
    /// Other hosts compute, too.
    OtherHosts = "other-hosts": "2 (unknown means no)",
        "what is computed from prompts is sent to other hosts",
    /// The server acts.
    Tools = "tools": "2 (unknown means no)",
        "a request can make the server run programs, read files and connect",
    /// Code that is not the server's.
    ForeignCode = "foreign-code": "1 (only way in)",
        "code from elsewhere runs as the model, with all that the guard leaves it",
    /// Prompts are written.
    PromptsOnDisk = "prompts-on-disk": "5 (metadata only)",
        "the server writes down what Bailiwick does not",
    /// Prompts are shown.
    PromptsInSight = "prompts-in-sight": "5 (metadata only)",
        "the server shows the prompts of others to whoever reaches it",
    /// A key that others can read.
    KeyInSight = "key-in-sight": "6 (the caller never learns the model's credential)",
        "every local user can read the command line of a process",
}

impl Kind {
    /// Whether it makes the server connect to others, which its egress policy holds.
    pub(super) const fn reaches_out(self) -> bool {
        matches!(
            self,
            Self::RemoteMedia
                | Self::CloudModels
                | Self::Telemetry
                | Self::Downloads
                | Self::OtherHosts
                | Self::Tools
        )
    }
}
