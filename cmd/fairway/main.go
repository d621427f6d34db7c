// Command fairway is the Kubernetes Service, whole, in one binary. See README.md.
package main

import (
	"os"

	"fairway.dev/fairway/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args, os.Stdin, os.Stdout, os.Stderr)) }
