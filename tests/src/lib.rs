//! Helpers of the tests from outside.
