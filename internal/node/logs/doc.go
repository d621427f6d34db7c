// Package logs reads what a container has printed, from the log that its shim writes.
//
// Contract. Read copies the text of a log, chosen by Options as the API's log options describe them, and with Follow goes on until
// the container has ended and all of its log has been read. It notices new records through inotify and reads on across a
// log that was moved aside for its size. A log that does not exist is empty. Reads share nothing: any number may run.
//
// To debug: the log is text, one record a line. To test: write records to a file.
package logs
