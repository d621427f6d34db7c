package runtime

import (
	"path/filepath"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Container describes a container to be started.
type Container struct {
	ID       string // unique on the machine, [0-9a-f]
	Args     []string
	Env      []string // NAME=value
	Dir      string   // working directory, made if missing
	User     User
	Hostname string // empty: the machine's (a Pod on the host's network)
	NetNS    string // path of the network namespace; empty: the machine's
	Mounts   []Mount
	Security Security
	Limits   Limits
	Input    Input
	Cgroup   string // path of the control group: "/fairway/<instance>/<Pod UID>/<container>"
}

// Input says what those who attach to a container may bring.
type Input struct {
	Stdin    bool // it has a standard input; otherwise that is /dev/null
	Once     bool // which ends with that of the first one who attaches
	Terminal bool // all three streams are a terminal
}

// User is who a container runs as.
type User struct {
	UID, GID uint32
	Groups   []uint32
}

// Mount shows a file or directory of the machine in the container.
type Mount struct {
	Source, Target string
	ReadOnly       bool
}

// Security says what a container may do beyond, or not even, the default.
type Security struct {
	Privileged     bool
	ReadOnlyRoot   bool
	NoNewPrivilege bool
	Add, Drop      []string // capabilities without CAP_; "ALL" is all of them
	HostPID        bool
	HostIPC        bool
}

// Limits bound what a container uses; 0 is no limit.
type Limits struct {
	CPUShares   uint64 // relative weight; 1024 is one CPU
	CPUQuota    int64  // microseconds of CPU time in each period of 100 ms
	MemoryBytes int64
	Processes   int64
}

const cpuPeriod = 100_000 // microseconds

// defaultCapabilities are those that other container runtimes for Kubernetes give as well.
var defaultCapabilities = []string{
	"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP",
	"SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}

// Spec turns a description into the OCI configuration for runc; rootfs is the mounted root.
func Spec(c Container, rootfs string) *specs.Spec {
	capabilities := c.capabilities()
	spec := &specs.Spec{
		Version:  "1.0.2",
		Hostname: c.Hostname,
		Root:     &specs.Root{Path: rootfs, Readonly: c.Security.ReadOnlyRoot},
		Process:  c.process(capabilities),
		Mounts:   c.mounts(),
		Linux: &specs.Linux{
			CgroupsPath: c.Cgroup,
			Namespaces:  c.namespaces(),
			Resources:   c.resources(),
		},
	}
	if !c.Security.Privileged {
		spec.Linux.MaskedPaths = []string{
			"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
			"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
		}
		spec.Linux.ReadonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
	}
	return spec
}

// process is what runs first in the container, and what exec runs beside it.
func (c Container) process(capabilities []string) *specs.Process {
	dir := c.Dir
	if dir == "" {
		dir = "/"
	}
	env := c.Env
	if c.Input.Terminal {
		env = append(slices.Clip(env), terminalEnv)
	}
	return &specs.Process{
		Terminal: c.Input.Terminal,

		Args: c.Args,
		Env:  env,
		Cwd:  dir,
		User: specs.User{UID: c.User.UID, GID: c.User.GID, AdditionalGids: c.User.Groups},
		Capabilities: &specs.LinuxCapabilities{
			Bounding: capabilities, Effective: capabilities, Permitted: capabilities,
		},
		NoNewPrivileges: c.Security.NoNewPrivilege,
	}
}

func (c Container) capabilities() []string {
	names := slices.Clone(defaultCapabilities)
	if c.Security.Privileged || slices.Contains(c.Security.Add, "ALL") {
		names = slices.Clone(allCapabilities())
	}
	if slices.Contains(c.Security.Drop, "ALL") && !c.Security.Privileged {
		names = nil
	}
	for _, name := range c.Security.Add {
		if name != "ALL" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		return slices.Contains(c.Security.Drop, name) && !c.Security.Privileged
	})
	slices.Sort(names)
	for i := range names {
		names[i] = "CAP_" + names[i]
	}
	return names
}

func (c Container) namespaces() []specs.LinuxNamespace {
	namespaces := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	if !c.Security.HostPID {
		namespaces = append(namespaces, specs.LinuxNamespace{Type: specs.PIDNamespace})
	}
	if !c.Security.HostIPC {
		namespaces = append(namespaces, specs.LinuxNamespace{Type: specs.IPCNamespace})
	}
	if c.Hostname != "" {
		namespaces = append(namespaces, specs.LinuxNamespace{Type: specs.UTSNamespace})
	}
	if c.NetNS != "" {
		namespaces = append(namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: c.NetNS})
	}
	return namespaces
}

func (c Container) mounts() []specs.Mount {
	sys, cgroup := "ro", "ro"
	if c.Security.Privileged {
		sys, cgroup = "rw", "rw"
	}
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts",
			Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", sys}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", cgroup}},
	}
	// A mount must come after the one that it lies in.
	own := slices.Clone(c.Mounts)
	slices.SortStableFunc(own, func(a, b Mount) int { return len(filepath.Clean(a.Target)) - len(filepath.Clean(b.Target)) })
	for _, m := range own {
		options := []string{"rbind", "rprivate"}
		if m.ReadOnly {
			options = append(options, "ro")
		}
		mounts = append(mounts, specs.Mount{Destination: m.Target, Type: "bind", Source: m.Source, Options: options})
	}
	return mounts
}

func (c Container) resources() *specs.LinuxResources {
	r := &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: c.Security.Privileged, Access: "rwm"}}}
	if l := c.Limits; l.CPUShares > 0 || l.CPUQuota > 0 {
		r.CPU = &specs.LinuxCPU{}
		if l.CPUShares > 0 {
			r.CPU.Shares = &l.CPUShares
		}
		if l.CPUQuota > 0 {
			period := uint64(cpuPeriod)
			r.CPU.Quota, r.CPU.Period = &l.CPUQuota, &period
		}
	}
	if c.Limits.MemoryBytes > 0 {
		r.Memory = &specs.LinuxMemory{Limit: &c.Limits.MemoryBytes}
	}
	if c.Limits.Processes > 0 {
		r.Pids = &specs.LinuxPids{Limit: &c.Limits.Processes}
	}
	return r
}
