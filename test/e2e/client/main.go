// Command client is a client of the API as programs in Pods are: it finds the API and who it is by what every Pod has, and tells over HTTP how that
// went.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
)

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

func main() {
	for path, do := range map[string]func(context.Context) (string, error){"/pods": pods, "/version": version, "/token": token, "/healthz": healthz} {
		http.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			answer, err := do(r.Context())
			if err != nil {
				code := http.StatusInternalServerError
				if status, ok := err.(apierrors.APIStatus); ok {
					code = int(status.Status().Code)
				}
				http.Error(w, err.Error(), code)
				return
			}
			fmt.Fprintln(w, answer)
		})
	}
	server := &http.Server{Addr: ":8080", ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

func healthz(context.Context) (string, error) { return "ok", nil }

// pods lists the Pods of its own namespace.
func pods(ctx context.Context) (string, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return "", err
	}
	client, err := corev1.NewForConfig(config)
	if err != nil {
		return "", err
	}
	namespace, err := os.ReadFile(account + "namespace")
	if err != nil {
		return "", err
	}
	list, err := client.Pods(string(namespace)).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	var names []string
	for _, p := range list.Items {
		names = append(names, p.Name)
	}
	return strings.Join(names, "\n"), nil
}

// version asks the API at its name, which its certificate must be for.
func version(ctx context.Context) (string, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return "", err
	}
	config.Host = "https://kubernetes.default.svc"
	client, err := corev1.NewForConfig(config)
	if err != nil {
		return "", err
	}
	answer, err := client.RESTClient().Get().AbsPath("/version").DoRaw(ctx)
	return string(answer), err
}

// token tells for whom the token's file is.
func token(context.Context) (string, error) {
	info, err := os.Stat(account + "token")
	if err != nil {
		return "", err
	}
	owner := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%v %d:%d", info.Mode(), owner.Uid, owner.Gid), nil
}
