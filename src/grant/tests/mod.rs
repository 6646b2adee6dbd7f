//! Tests of the pure core, by behaviour. Their fixtures are in [`resources`] (resources and
//! accounts) and [`iam`] (an IAM small enough to be read).

mod access;
mod admission;
mod adoption;
mod change;
mod claims;
mod decision;
mod desired;
mod drift;
mod iam;
mod instance_role;
mod kstatus;
mod leftovers;
mod operator_role;
mod ownership;
mod parse;
mod registry_role;
mod repository_laws;
mod repository_policy;
mod resources;
mod role_documents;
mod roles;
mod session_tags;
mod sessions;
mod sharing;
mod status;
mod status_access;
mod status_laws;
mod status_repositories;
mod step;
mod sweep;
