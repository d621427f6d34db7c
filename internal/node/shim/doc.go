// Package shim is the small process beside each container: the parent that stays when the rest of Fairway stops, is killed or is
// replaced.
//
// Contract. A shim is the same program as its starter, told apart by its name (argv[0] is "fairway-shim"). It has runc start one
// container, says in one line on file descriptor 3 how that went, writes every line that the container prints to the
// container's log in the format of the container runtime interface, waits for the container's end and writes how it ended to
// a file. It listens to nobody and changes nothing else. All files are replaced as a whole, so a reader never sees half of one.
//
// The package imports the standard library and golang.org/x/sys only and does its work in an init function: Go initializes it
// before the large libraries of the program, so a shim starts in a few milliseconds and stays small. That is why nothing has to be
// called from main.
//
// To debug: `ps` shows the container's directory as the shim's argument; shim.json, started.json, exit.json and runc.log are in
// it. To test: any test binary that imports this package is a shim when it is started under that name.
package shim
