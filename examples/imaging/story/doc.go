// Package story runs the whole story of the imaging example against a fairway binary, as a user would by hand, and counts.
//
// It makes a network namespace without a default route, starts "fairway up" in it, builds the images, applies the
// manifests, reaches the Service imaging in every way there is, and then scales, kills, rolls and deletes Pods while five clients
// outside and the gallery inside keep asking. At the end it runs "fairway down" and looks for anything that is left.
//
// Contract. Run blocks until the story is over and everything it made is gone again, also when ctx ends early or a step fails.
// The only failures that it forgives are requests that died with the process that the story itself kills; excuse.go says
// exactly which. It needs root, nft, ip and runc on the machine, and touches nothing outside its namespace and its temporary directory.
//
// How to debug: everything that is done is printed as a command that can be typed, with the time since the start; the
// first line says how to look into the namespace while it runs. Report has every failed request in full.
//
// How to test: counting, excusing, printing and the clients have tests that need neither root nor a fairway binary; the story as a
// whole is the end-to-end test of the project.
package story
