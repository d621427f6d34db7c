// Package image keeps the images that containers are made from: it builds, imports and pulls them and unpacks each one
// once.
//
// Contract. A Store is one directory: an OCI image layout (so that other programs can read it), the unpacked root file
// systems beside it, and two lock files. Any number of goroutines and of processes may use the same directory at the same
// time; what one of them adds the others see at their next call. Nothing half-written is ever visible: blobs, the index
// and root file systems are written beside their place and renamed. Names are kept in the short form that people type:
// "imaging:v1" is found by exactly that name with no network involved, and is the same name as
// "docker.io/library/imaging:v1".
//
// To debug: index.json lists names and digests; rootfs/<digest> is what containers see. To test: a temporary directory, and the
// registry of go-containerregistry on a loopback listener for pulls.
package image
