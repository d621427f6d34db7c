// Package static answers from files: names with fixed addresses (hosts) and zones of one's own (master files).
//
// Contract. Pure: what a file says is given as bytes, and what was made of it never changes, so that any number of goroutines may ask. A
// mistake is an error with file and line, and nothing is made of a file with a mistake. Answers are composed when asked for.
package static
