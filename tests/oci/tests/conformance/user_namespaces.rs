//! user_namespaces
