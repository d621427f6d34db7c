package e2e

import (
	"fmt"
	"strings"
)

// webManifest is a Deployment of the test's own web server with a Service of every shape.
const webManifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: web:v1
        imagePullPolicy: Never
        ports: [{name: http, containerPort: 8080}]
        env: [{name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
        readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http, nodePort: 30080}]
---
apiVersion: v1
kind: Service
metadata: {name: empty}
spec:
  selector: {app: nobody}
  ports: [{port: 80}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  rules:
  - host: web.example.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {name: http}}}}]}
`

// withWeb builds the web image and applies the manifest.
func (m *machine) withWeb() {
	m.t.Helper()
	path, err := webPath()
	if err != nil {
		m.t.Fatal(err)
	}
	m.must("image", "build", "--binary", path, "web:v1")
	m.apply(webManifest)
	m.must("kubectl", "rollout", "status", "deploy/web", "--timeout=90s")
}

// clusterIPs gives a Service's addresses.
func (m *machine) clusterIPs(service string) []string {
	m.t.Helper()
	return strings.Fields(m.must("kubectl", "get", "svc", service, "-o", "jsonpath={.spec.clusterIPs[*]}"))
}

func (m *machine) answers(url, host string) {
	m.t.Helper()
	m.until(url+" answers", func() error {
		status, body, _, err := m.get(url, host)
		if err == nil && status != 200 {
			err = fmt.Errorf("status %d: %s", status, body)
		}
		return err
	})
}
