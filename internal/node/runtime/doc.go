// Package runtime runs containers: an OCI bundle, an overlay file system over an unpacked image, runc, and a shim beside each
// container.
//
// Contract. Start returns when the container's process runs; the container then needs nobody: it goes on when this process
// ends, and Load finds it again in its directory. The end of a container's process is noticed through a process
// file descriptor, at once. Remove leaves no process, mount, control group or file. Spec, which turns a description of a container
// into the OCI configuration, is pure. Everything is safe for concurrent use, but for two calls of Remove on one Container.
//
// To debug: a container's directory holds config.json (what runc was told), runc.log, started.json and exit.json;
// `runc --root <run directory>/runc list` shows what runc knows. To test: real runc, as root, with an image built from the test binary.
package runtime
