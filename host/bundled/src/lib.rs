//! The bundled plugins, compiled and embedded by the build.
