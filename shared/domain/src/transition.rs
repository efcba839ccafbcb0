//! The moves of a state machine: from which states each is legal, and to which state it leads.
//!
//! Each state machine declares its moves once, beside its states. `rag-db` writes the `WHERE` of each UPDATE from the
//! declaration, and its tests try every move from every state.

/// One move of a state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition<S: 'static> {
    /// The name of its constant.
    pub name: &'static str,
    /// The states from which it is legal.
    pub from: &'static [S],
    pub to: S,
}

impl<S: PartialEq> Transition<S> {
    pub fn is_legal_from(&self, state: &S) -> bool {
        self.from.contains(state)
    }
}

/// Declares the moves of a state machine: a constant for each, and all of them as `TRANSITIONS`.
macro_rules! transitions {
    ($state:ident { $($(#[$doc:meta])* $name:ident: $($from:ident)|+ => $to:ident),+ $(,)? }) => {
        impl $state {
            $($(#[$doc])* pub const $name: $crate::Transition<Self> = $crate::Transition {
                name: stringify!($name),
                from: &[$(Self::$from),+],
                to: Self::$to,
            };)+

            /// Every move.
            pub const TRANSITIONS: &'static [$crate::Transition<Self>] = &[$(Self::$name),+];
        }
    };
}

pub(crate) use transitions;
