//! Policy routing: `plan` turns a policy into rules and routes (pure), `apply` puts them into the kernel and reads them back.

pub mod apply;
pub mod plan;

pub use plan::RoutePlan;
