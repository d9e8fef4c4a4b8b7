#![doc = include_str!("../docs/guide/index.md")]

// For the links of the pages.
#[allow(unused_imports, reason = "only the links of the pages use it, and only rustdoc sees them")]
use crate::*;

#[doc = include_str!("../docs/guide/balancers.md")]
pub mod balancers {}

#[doc = include_str!("../docs/guide/choosing.md")]
pub mod choosing {}

#[doc = include_str!("../docs/guide/composing.md")]
pub mod composing {}

#[doc = include_str!("../docs/guide/crashing.md")]
pub mod crashing {}

#[doc = include_str!("../docs/guide/draining.md")]
pub mod draining {}

#[doc = include_str!("../docs/guide/internet.md")]
pub mod internet {}

#[doc = include_str!("../docs/guide/kubernetes.md")]
pub mod kubernetes {}

#[doc = include_str!("../docs/guide/logs.md")]
pub mod logs {}

#[doc = include_str!("../docs/guide/macros.md")]
pub mod macros {}

#[doc = include_str!("../docs/guide/metrics.md")]
pub mod metrics {}

#[doc = include_str!("../docs/guide/programs.md")]
pub mod programs {}

#[doc = include_str!("../docs/guide/protocols.md")]
pub mod protocols {}

#[doc = include_str!("../docs/guide/proxies.md")]
pub mod proxies {}

#[doc = include_str!("../docs/guide/pushing.md")]
pub mod pushing {}

#[doc = include_str!("../docs/guide/python.md")]
pub mod python {}

#[doc = include_str!("../docs/guide/restarting.md")]
pub mod restarting {}

#[doc = include_str!("../docs/guide/slow_clients.md")]
pub mod slow_clients {}

#[doc = include_str!("../docs/guide/state.md")]
pub mod state {}

#[doc = include_str!("../docs/guide/systemd.md")]
pub mod systemd {}

#[cfg_attr(feature = "testing", doc = include_str!("../docs/guide/testing.md"))]
#[cfg_attr(not(feature = "testing"), doc = "This page is there with the feature `testing`.")]
pub mod testing {}

#[cfg(feature = "tls")]
#[doc = include_str!("../docs/guide/tls.md")]
pub mod tls {}

#[doc = include_str!("../docs/guide/tokio.md")]
pub mod tokio {}
