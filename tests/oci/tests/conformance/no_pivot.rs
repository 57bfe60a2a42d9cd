//! no_pivot
