//! What the structs of hyper-parameters share.

/// A struct of hyper-parameters: its fields with their defaults and setters, its constructor, and `Default`, which
/// is the same.
macro_rules! config {
    (
        $(#[$doc:meta])*
        pub struct $config:ident;
        $(#[$new_doc:meta])*
        pub fn $new:ident {
            $( $(#[$field_doc:meta])* $field:ident: $t:ty = $default:expr, $with:ident; )*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[non_exhaustive]
        pub struct $config {
            $( $(#[$field_doc])* pub $field: $t, )*
        }

        impl $config {
            $(#[$new_doc])*
            #[must_use]
            pub fn $new() -> Self {
                Self { $($field: $default),* }
            }

            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](Self::", stringify!($field), ").")]
                #[must_use]
                pub fn $with(mut self, $field: $t) -> Self {
                    self.$field = $field;
                    self
                }
            )*
        }

        impl Default for $config {
            fn default() -> Self {
                Self::$new()
            }
        }
    };
}
pub(crate) use config;

macro_rules! with_betas {
    ($($config:ident),*) => {$(
        impl crate::$config {
            /// Sets both decay rates.
            #[must_use]
            pub fn with_betas(self, beta1: f64, beta2: f64) -> Self {
                self.with_beta1(beta1).with_beta2(beta2)
            }
        }
    )*};
}
with_betas!(
    AdamConfig,
    NAdamConfig,
    RAdamConfig,
    AdamaxConfig,
    LambConfig,
    LionConfig,
    ScheduleFreeConfig
);
