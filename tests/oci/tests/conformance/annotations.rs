//! config.md "Annotations".

use oci_tests::{Bundle, Environment, Runtime};
use serde_json::json;

use crate::refused_for;

#[test]
fn annotations_are_kept_and_understood_by_nobody_are_no_error() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let annotations = json!({ "com.example.gpu-cores": "2", "empty": "", "with space": "ü\n" });
    let bundle = Bundle::new().idle().set("/annotations", annotations.clone());
    let container = runtime.start(&bundle);
    assert_eq!(container.state()["annotations"], annotations);
}

#[test]
fn annotations_are_strings_with_names() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    refused_for(runtime.run(&Bundle::new().set("/annotations", json!({ "": "x" }))), &["annotations"]);
    refused_for(runtime.run(&Bundle::new().set("/annotations", json!({ "a": 1 }))), &["annotations"]);
    refused_for(runtime.run(&Bundle::new().set("/annotations", json!([]))), &["annotations"]);
}
