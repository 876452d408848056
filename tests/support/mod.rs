//! What tests stand on.

pub(crate) mod ahead;
pub(crate) mod beanstalk;
pub(crate) mod crash;
pub(crate) mod http;
pub(crate) mod keys;
pub(crate) mod moto;
pub(crate) mod project;
pub(crate) mod proxy;
pub(crate) mod sandbox;
pub(crate) mod shop;
pub(crate) mod stand;
pub(crate) mod system;
pub(crate) mod visitor;
pub(crate) mod wait;
