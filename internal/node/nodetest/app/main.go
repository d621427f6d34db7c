// Command app is the program that the containers of the node's tests run. Its arguments are a list of things to do, in order.
package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	for _, word := range os.Args[1:] {
		what, argument, _ := strings.Cut(word, "=")
		if err := do(what, argument); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func do(what, argument string) error {
	switch what {
	case "say": // one line on standard output
		fmt.Println(argument)
	case "complain": // one line on standard error
		fmt.Fprintln(os.Stderr, argument)
	case "env": // the value of a variable
		fmt.Println(os.Getenv(argument))
	case "cat": // the content of a file
		data, err := os.ReadFile(argument)
		if err != nil {
			return err
		}
		os.Stdout.Write(data)
	case "echo": // standard input
		_, err := os.Stdout.ReadFrom(os.Stdin)
		return err
	case "answer": // each line of standard input, after a prompt
		fmt.Print("> ")
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); fmt.Print("> ") {
			fmt.Printf("you said %s\n", lines.Text())
		}
		fmt.Println("bye")
	case "size": // of the terminal, as it is after it has changed
		changed := make(chan os.Signal, 1)
		signal.Notify(changed, syscall.SIGWINCH)
		for {
			size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
			if err != nil {
				return err
			}
			if size.Col > 0 {
				fmt.Printf("%dx%d\n", size.Col, size.Row)
				return nil
			}
			<-changed
		}
	case "write": // PATH:TEXT
		path, text, _ := strings.Cut(argument, ":")
		return os.WriteFile(path, []byte(text), 0o644)
	case "absent": // fails if the file exists
		if _, err := os.Stat(argument); err == nil {
			return fmt.Errorf("%s exists", argument)
		}
	case "id":
		fmt.Println(os.Getuid(), os.Getgid())
	case "hostname":
		name, err := os.Hostname()
		if err != nil {
			return err
		}
		fmt.Println(name)
	case "addresses":
		addresses, err := net.InterfaceAddrs()
		if err != nil {
			return err
		}
		fmt.Println(addresses)
	case "get": // body of a URL
		client := http.Client{Timeout: 5 * time.Second}
		answer, err := client.Get(argument)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		_, err = os.Stdout.ReadFrom(answer.Body)
		return err
	case "exit":
		code, err := strconv.Atoi(argument)
		if err != nil {
			return err
		}
		os.Exit(code)
	case "serve": // HTTP until SIGTERM, which it says
		return serve(argument)
	case "stubborn": // does not end on SIGTERM
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("stubborn")
		for {
			time.Sleep(time.Hour)
		}
	default:
		return fmt.Errorf("cannot do %q", what)
	}
	return nil
}

// serve answers /healthz with 200 unless the file /unhealthy exists, / with its host name, and ends with code 0 on SIGTERM.
func serve(address string) error {
	http.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := os.Stat("/unhealthy"); err == nil {
			http.Error(w, "unhealthy", http.StatusServiceUnavailable)
		}
	})
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		name, _ := os.Hostname()
		fmt.Fprintln(w, name)
	})
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() { _ = http.Serve(listener, nil) }()
	fmt.Println("serving")
	<-stop
	fmt.Println("terminated")
	return nil
}
