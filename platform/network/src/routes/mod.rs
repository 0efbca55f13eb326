//! Policy routing: `plan` turns a policy into rules and routes (pure), `apply` puts them into the kernel and reads them back.

pub mod apply;
pub mod plan;
pub mod plan_macos;
pub mod plan_windows;
pub mod route_message;

pub use plan::RoutePlan;
