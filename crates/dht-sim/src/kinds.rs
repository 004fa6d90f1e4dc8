//! Sorts of things, each with a name in text.

/// An enumeration whose variants are given with their names: all of them in a list with these, and
/// `Display`.
macro_rules! kinds {
    (
        $(#[$about:meta])*
        pub enum $Kind:ident {
            $($(#[$what:meta])* $Variant:ident = $name:literal,)+
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum $Kind {
            $($(#[$what])* $Variant,)+
        }

        impl $Kind {
            /// All of them, with their names in text.
            pub const ALL: [(Self, &'static str); [$($name),+].len()] =
                [$((Self::$Variant, $name)),+];
        }

        impl core::fmt::Display for $Kind {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(match self {
                    $(Self::$Variant => $name,)+
                })
            }
        }
    };
}

pub(crate) use kinds;
