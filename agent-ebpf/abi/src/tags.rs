//! The closed sets that travel as one byte.

/// A byte that names nothing in its set: the two sides were built from different sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownTag {
    /// The set.
    pub set: &'static str,
    /// The byte.
    pub tag: u8,
}

macro_rules! tags {
    ($(#[$about:meta])* $set:ident { $($(#[$doc:meta])* $name:ident = $tag:literal,)+ }) => {
        $(#[$about])*
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $set { $($(#[$doc])* $name = $tag,)+ }

        impl $set {
            /// Every one of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The byte it travels as.
            #[inline(always)]
            #[must_use]
            pub const fn tag(self) -> u8 {
                self as u8
            }
        }

        impl TryFrom<u8> for $set {
            type Error = UnknownTag;

            #[inline(always)]
            fn try_from(tag: u8) -> Result<Self, UnknownTag> {
                match tag {
                    $($tag => Ok(Self::$name),)+
                    _ => Err(UnknownTag { set: stringify!($set), tag }),
                }
            }
        }
    };
}

tags! {
    /// What a scope is.
    Kind {
        /// The agent.
        Proxy = 1,
        /// A model server's slice.
        Model = 2,
        /// Any other watched service.
        Workload = 3,
    }
}

tags! {
    /// How strictly an egress verdict is applied. The guard on the way in has no mode: it always holds.
    Mode {
        /// Decide nothing.
        Monitor = 1,
        /// Decide and report, block nothing.
        Shadow = 2,
        /// Decide and block.
        Enforce = 3,
    }
}

tags! {
    /// The hook that saw it.
    Hook {
        /// connect(2).
        Connect = 1,
        /// sendto(2), sendmsg(2) with a destination.
        SendMessage = 2,
        /// bind(2).
        Bind = 3,
        /// A packet to a socket.
        Ingress = 4,
        /// A packet from a socket.
        Egress = 5,
    }
}

tags! {
    /// What was decided; what is allowed is only counted.
    Verdict {
        /// Refused.
        Deny = 1,
        /// Would have been refused; shadow mode let it pass.
        WouldDeny = 2,
    }
}

tags! {
    /// Why.
    Reason {
        /// Towards a guarded port, not from the proxy.
        NotProxy = 1,
        /// A new inbound connection to a sealed slice.
        Sealed = 2,
        /// A guarded port in the hands of something outside its model's slice.
        PortReserved = 3,
        /// No rule covers the destination.
        DestinationNotAllowed = 4,
        /// Neither TCP nor UDP.
        ProtocolNotAllowed = 5,
        /// A packet whose header cannot be read, or that carries routing options.
        Malformed = 6,
        /// A loopback destination that no exception names.
        LoopbackNotNamed = 7,
        /// A map entry that should be there is missing.
        PolicyMissing = 8,
        /// A resolver, or what listens at a resolver's port, that no exception names.
        ResolverNotNamed = 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tag_decodes_to_itself_and_nothing_else_decodes() {
        for reason in Reason::ALL {
            assert_eq!(Reason::try_from(reason.tag()), Ok(*reason));
        }
        assert_eq!(Reason::try_from(0), Err(UnknownTag { set: "Reason", tag: 0 }));
        assert_eq!(Kind::try_from(9), Err(UnknownTag { set: "Kind", tag: 9 }));
    }
}
