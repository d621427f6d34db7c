// Package ingress looks at Ingresses without serving them: in manifests, or in a cluster.
//
// Contract. Read takes objects from files or an API server into a World and changes nothing there. Check says for every Ingress, annotation by
// annotation, what Fairway makes of it; Explain says for one request which rule takes it and why the others do not. Both use the compiler that the
// proxy uses, so what they say is what will be. An object that cannot be read is an error that names file and document.
//
// To debug, compare with the proxy's findings. To test, give Read a file.
package ingress
