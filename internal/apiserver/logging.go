package apiserver

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	_ "unsafe" // for go:linkname

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	_ "k8s.io/apiserver/pkg/storage/storagebackend/factory" // whose logger is replaced below

	"fairway.dev/fairway/internal/upstreamlog"
)

var routeOnce sync.Once

// etcdClientLogger is upstream's logger of its connection to etcd, which writes to the terminal, has no setting that would
// stop it, and has a warning for every request that a client gives up.
//
//go:linkname etcdClientLogger k8s.io/apiserver/pkg/storage/storagebackend/factory.etcd3ClientLogger
var etcdClientLogger *zap.Logger

// routeUpstreamLogs sends what the Kubernetes libraries and their client of etcd log to log, once per process because their loggers are one
// per process.
func routeUpstreamLogs(log *slog.Logger) {
	upstreamlog.Route(log)
	routeOnce.Do(func() {
		*etcdClientLogger = *zap.New(slogCore{zapcore.WarnLevel, log.With("component", "etcd client"), nil})
	})
}

// slogCore writes zap entries to slog: errors as errors, except those that are expected, and the rest as debug.
type slogCore struct {
	zapcore.LevelEnabler
	log      *slog.Logger
	expected func(zapcore.Entry) bool
}

// Check implements zapcore.Core.
func (c slogCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write implements zapcore.Core.
func (c slogCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	level := slog.LevelDebug
	if entry.Level >= zapcore.ErrorLevel && (c.expected == nil || !c.expected(entry)) {
		level = slog.LevelError
	}
	c.log.Log(context.Background(), level, message(entry, fields))
	return nil
}

// With implements zapcore.Core. Fields bound to a child logger are dropped: they repeat the member's name.
func (c slogCore) With([]zapcore.Field) zapcore.Core { return c }

// Sync implements zapcore.Core.
func (c slogCore) Sync() error { return nil }

// message joins an entry and the error in its fields to one line.
func message(entry zapcore.Entry, fields []zapcore.Field) string {
	parts := []string{entry.Message}
	for _, field := range fields {
		if field.Type == zapcore.ErrorType && field.Interface != nil {
			parts = append(parts, fmt.Sprint(field.Interface))
		}
	}
	return strings.Join(parts, ": ")
}
