// Command web is the server that the end-to-end tests run in Pods: it says who it is over HTTP and UDP, asks others on request, and is as well or
// as ill as it is told.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/websocket"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "exit" {
		code, err := strconv.Atoi(os.Args[2])
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("ending with", code)
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	who := os.Getenv("POD_NAME")
	if who == "" {
		who, _ = os.Hostname()
	}
	var off sync.Map // the checks that fail: by $OFF, and by /turn/on and /turn/off
	for _, check := range strings.Fields(os.Getenv("OFF")) {
		off.Store(check, true)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, who) })
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	mux.HandleFunc("/check/{check}", func(w http.ResponseWriter, r *http.Request) {
		if _, is := off.Load(r.PathValue("check")); is {
			http.Error(w, "off", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/turn/on/{check}", func(_ http.ResponseWriter, r *http.Request) { off.Delete(r.PathValue("check")) })
	mux.HandleFunc("/turn/off/{check}", func(_ http.ResponseWriter, r *http.Request) { off.Store(r.PathValue("check"), true) })
	mux.HandleFunc("/crash", func(http.ResponseWriter, *http.Request) { log.Fatal("crashing") })
	mux.HandleFunc("/env", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, strings.Join(os.Environ(), "\n")) })
	mux.HandleFunc("/asked", func(w http.ResponseWriter, r *http.Request) { // what arrived
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s\n", r.Method, r.URL.RequestURI(), body)
	})
	mux.HandleFunc("/elsewhere", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/asked?by=redirect", http.StatusFound)
	})
	mux.Handle("/echo", websocket.Handler(func(c *websocket.Conn) { _, _ = io.Copy(c, c) }))
	mux.HandleFunc("/fetch", func(w http.ResponseWriter, r *http.Request) {
		resp, err := http.Get(r.URL.Query().Get("url"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	})
	srv := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	datagrams, err := net.ListenPacket("udp", srv.Addr)
	if err != nil {
		log.Fatal(err)
	}
	go echo(datagrams, who)
	go func() {
		<-ctx.Done()
		_ = srv.Shutdown(context.Background())
	}()
	log.Print("listening on ", srv.Addr)
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}

// echo answers each datagram with the server's name and what was in it.
func echo(c net.PacketConn, who string) {
	b := make([]byte, 2048)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = c.WriteTo([]byte(who+" "+string(b[:n])), from)
	}
}
