//! placeholder
pub mod nexmark;
