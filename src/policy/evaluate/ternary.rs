//! Yes, no, or unknown: the answers to questions about a request that is only partly known.

use std::collections::BTreeSet;

/// The answer to a question about a request (Kleene's logic of three values).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ternary {
    Yes,
    No,
    Unknown(Causes),
}

/// The causes of an unknown answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Causes {
    /// Condition keys whose values are not known.
    pub(super) keys: BTreeSet<String>,
    /// Parts that could not be read or are not understood, with the reason.
    pub(super) unread: BTreeSet<String>,
}

impl Causes {
    fn join(mut self, mut other: Self) -> Self {
        if self.keys.len() + self.unread.len() < other.keys.len() + other.unread.len() {
            std::mem::swap(&mut self, &mut other);
        }
        self.keys.extend(other.keys);
        self.unread.extend(other.unread);
        self
    }
}

impl Ternary {
    pub(super) fn of(truth: bool) -> Self {
        if truth { Self::Yes } else { Self::No }
    }

    /// Creates an answer that depends on this condition key.
    pub(super) fn hangs_on(key: impl Into<String>) -> Self {
        Self::Unknown(Causes {
            keys: [key.into()].into(),
            ..Causes::default()
        })
    }

    /// Creates an answer that depends on a part that is not understood.
    pub(super) fn unread(why: impl Into<String>) -> Self {
        Self::Unknown(Causes {
            unread: [why.into()].into(),
            ..Causes::default()
        })
    }

    pub(super) fn is_no(&self) -> bool {
        *self == Self::No
    }

    pub(super) fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            unknown @ Self::Unknown(_) => unknown,
        }
    }

    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, other) | (other, Self::Yes) => other,
            (Self::Unknown(one), Self::Unknown(other)) => Self::Unknown(one.join(other)),
        }
    }

    pub(super) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Yes, _) | (_, Self::Yes) => Self::Yes,
            (Self::No, other) | (other, Self::No) => other,
            (Self::Unknown(one), Self::Unknown(other)) => Self::Unknown(one.join(other)),
        }
    }

    /// Returns whether at least one of them holds.
    pub(super) fn any(truths: impl IntoIterator<Item = Self>) -> Self {
        let mut whole = Self::No;
        for truth in truths {
            whole = whole.or(truth);
            if whole == Self::Yes {
                break;
            }
        }
        whole
    }

    /// Returns whether all of them hold.
    pub(super) fn all(truths: impl IntoIterator<Item = Self>) -> Self {
        let mut whole = Self::Yes;
        for truth in truths {
            whole = whole.and(truth);
            if whole == Self::No {
                break;
            }
        }
        whole
    }

    /// Adds the location to each part that is not understood.
    pub(super) fn located(self, place: impl Fn(&str) -> String) -> Self {
        match self {
            Self::Unknown(Causes { keys, unread }) => Self::Unknown(Causes {
                keys,
                unread: unread.iter().map(|why| place(why)).collect(),
            }),
            known => known,
        }
    }
}
