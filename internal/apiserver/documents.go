package apiserver

import (
	"net/http"
	"strings"
	"sync"

	"github.com/emicklei/go-restful/v3"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/mux"
	"k8s.io/klog/v2"
	"k8s.io/kube-openapi/pkg/builder"
	"k8s.io/kube-openapi/pkg/builder3"
	"k8s.io/kube-openapi/pkg/cached"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/common/restfuladapter"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/handler3"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// documents are the OpenAPI documents at /openapi. They are built when somebody asks for the first time: upstream builds them at
// the start, which costs time and memory in every start, and version 2 nobody asks for but clients of old.
type documents struct {
	second *handler.OpenAPIService
	// builtIn is what version 2 says of the kinds that are built in. It is empty until the document is asked for.
	builtIn *spec.Swagger
	third   *handler3.OpenAPIService
}

// serveDocuments describes what server has installed at this time, and serves it. Others may add to the documents.
func serveDocuments(server *genericapiserver.GenericAPIServer, second *common.Config, third *common.OpenAPIV3Config) (*documents, error) {
	d := &documents{builtIn: new(spec.Swagger), third: handler3.NewOpenAPIService()}
	d.second = handler.NewOpenAPIService(d.builtIn)
	services := server.Handler.GoRestfulContainer.RegisteredWebServices()

	build := sync.OnceFunc(func() {
		built, err := builder.BuildOpenAPISpecFromRoutes(restfuladapter.AdaptWebServices(services), second)
		if err != nil {
			klog.ErrorS(err, "OpenAPI version 2 could not be built")
			return
		}
		built.Definitions = handler.PruneDefaults(built.Definitions)
		*d.builtIn = *built
	})
	path := "/openapi/v2"
	inner := mux.NewPathRecorderMux("openapi")
	d.second.RegisterOpenAPIVersionedService(path, inner)
	server.Handler.NonGoRestfulMux.Handle(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		build()
		inner.ServeHTTP(w, r)
	}))

	for _, service := range services {
		d.third.UpdateGroupVersionLazy(strings.TrimPrefix(service.RootPath(), "/"), cached.Once(cached.Func(func() (*spec3.OpenAPI, string, error) {
			built, err := builder3.BuildOpenAPISpecFromRoutes(restfuladapter.AdaptWebServices([]*restful.WebService{service}), third)
			return built, "built", err // once, so the tag never changes
		})))
	}
	return d, d.third.RegisterOpenAPIV3VersionedService("/openapi/v3", server.Handler.NonGoRestfulMux)
}
