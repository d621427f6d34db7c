// Command lookup prints the addresses of a name, one a line, as Go's resolver finds them.
package main

import (
	"fmt"
	"net"
	"os"
)

func main() {
	addrs, err := net.LookupHost(os.Args[1])
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for _, a := range addrs {
		fmt.Println(a)
	}
}
