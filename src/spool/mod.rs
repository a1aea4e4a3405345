//! Where reports are kept until somebody received them: one directory, bounded, every change a rename.

#![forbid(unsafe_code)]
