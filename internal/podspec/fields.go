package podspec

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// rule is about one field, and all that is below it, which asks for something that the node does not do.
type rule struct {
	why     string
	refused bool
	except  []string                                    // values that ask for nothing
	unless  func(parent any, spec *corev1.PodSpec) bool // the struct that has the field, as a pointer: true if it asks for nothing
}

func refuse(why string, except ...string) rule { return rule{why: why, refused: true, except: except} }
func tell(why string, except ...string) rule   { return rule{why: why, except: except} }

const (
	noDevices  = "there are no devices here"
	noOwners   = "files of this volume have no owner of their own here: use securityContext.fsGroup and defaultMode"
	noRules    = "containers restart by the Pod's restartPolicy; only an init container may have its own, Always"
	noLabels   = "SELinux labels are not set"
	noWindows  = "nothing runs Windows containers here"
	noSeccomp  = "the profile of system calls is not set: they are not filtered"
	noAppArmor = "the AppArmor profile is not set"
	noDisk     = "use of disk space is not limited"
)

var rules = func() map[string]rule {
	rules := map[string]rule{
		"shareProcessNamespace": refuse("each container has its process namespace alone: leave it out, or look into containers with 'kubectl exec'", "false"),
		"hostUsers":             refuse("Pods have no user namespace of their own: leave it out", "true"),
		"setHostnameAsFQDN":     refuse("the host name is the Pod's name or spec.hostname: leave it out", "false"),
		"hostnameOverride":      refuse("use spec.hostname"),
		"runtimeClassName":      refuse("runc runs all containers: leave it out"),
		"os.name":               refuse(noWindows, "linux"),
		"resourceClaims":        refuse(noDevices),
		"schedulingGroup":       refuse("Pods are scheduled one by one: leave it out"),
		"evictionResponders":    refuse("nobody is asked before an eviction: use a PodDisruptionBudget"),
		"ephemeralContainers":   refuse("no container is added to a Pod that runs"),
		"resources":             refuse("limits are those of containers: give each its own"),
		"imagePullSecrets":      tell("images are pulled without these credentials: if the registry wants some, import the image with 'fairway image import'"),

		"securityContext.sysctls":                          refuse("kernel parameters of a Pod are not set: have a privileged init container do that"),
		"securityContext.supplementalGroupsPolicy":         refuse("the groups that the image gives its user are kept", "Merge"),
		"securityContext.seLinuxOptions":                   tell(noLabels),
		"securityContext.windowsOptions":                   tell(noWindows),
		"securityContext.seccompProfile.type":              tell(noSeccomp, "Unconfined"),
		"securityContext.seccompProfile.localhostProfile":  refuse(noSeccomp),
		"securityContext.appArmorProfile.type":             tell(noAppArmor, "Unconfined"),
		"securityContext.appArmorProfile.localhostProfile": refuse(noAppArmor),

		"containers.restartPolicy":            {why: noRules, refused: true, unless: sidecar},
		"containers.restartPolicyRules":       refuse(noRules),
		"containers.env.valueFrom.fileKeyRef": refuse("variables are not read from files: use a ConfigMap or a Secret"),
		"containers.resources.claims":         refuse(noDevices),
		"containers.resources.limits": {why: noDisk, unless: func(parent any, _ *corev1.PodSpec) bool {
			return !hasDisk(parent.(*corev1.ResourceRequirements).Limits)
		}},
		"containers.resources.requests": {why: noDisk, unless: func(parent any, _ *corev1.PodSpec) bool {
			return !hasDisk(parent.(*corev1.ResourceRequirements).Requests)
		}},
		"containers.volumeDevices":                                    refuse(noDevices),
		"containers.volumeMounts.recursiveReadOnly":                   refuse("mounts below a volume keep their own mode: leave it out", "Disabled", "IfPossible"),
		"containers.volumeMounts.mountPropagation":                    refuse("mounts made later are not passed on: leave it out", "None"),
		"containers.volumeMounts.bindMountOptions":                    refuse("a volume is mounted with readOnly or without: leave it out"),
		"containers.securityContext.procMount":                        refuse("some of /proc is hidden: leave it out, or use privileged", "Default"),
		"containers.securityContext.seLinuxOptions":                   tell(noLabels),
		"containers.securityContext.windowsOptions":                   tell(noWindows),
		"containers.securityContext.seccompProfile.type":              tell(noSeccomp, "Unconfined"),
		"containers.securityContext.seccompProfile.localhostProfile":  refuse(noSeccomp),
		"containers.securityContext.appArmorProfile.type":             tell(noAppArmor, "Unconfined"),
		"containers.securityContext.appArmorProfile.localhostProfile": refuse(noAppArmor),
		"containers.ports.hostPort": {
			why: "ports of the machine are not passed on to Pods: use a Service of type NodePort, or hostNetwork", refused: true,
			unless: func(_ any, spec *corev1.PodSpec) bool { return spec.HostNetwork },
		},

		"volumes.emptyDir.medium": refuse("use Memory, or leave it out", "Memory"),
		"volumes.emptyDir.mode":   refuse("everybody may write to an emptyDir: leave it out"),
		"volumes.emptyDir.sizeLimit": {why: noDisk, unless: func(parent any, _ *corev1.PodSpec) bool {
			return parent.(*corev1.EmptyDirVolumeSource).Medium == corev1.StorageMediumMemory
		}},
		"volumes.projected.sources.clusterTrustBundle":       refuse("the API has no ClusterTrustBundles: use a ConfigMap"),
		"volumes.projected.sources.podCertificate":           refuse("the API has no PodCertificateRequests: use a Secret"),
		"volumes.projected.sources.serviceAccountToken.user": refuse(noOwners),
	}
	for _, source := range []string{"volumes.secret", "volumes.configMap", "volumes.downwardAPI", "volumes.projected"} {
		rules[source+".defaultUser"] = refuse(noOwners)
		rules[source+".items.user"] = refuse(noOwners)
	}
	for _, source := range []string{"secret", "configMap", "downwardAPI"} {
		rules["volumes.projected.sources."+source+".items.user"] = refuse(noOwners)
	}
	delete(rules, "volumes.projected.items.user")
	for source := range strings.FieldsSeq(`awsElasticBlockStore azureDisk azureFile cephfs cinder csi ephemeral fc flexVolume flocker gcePersistentDisk gitRepo glusterfs image iscsi
		nfs persistentVolumeClaim photonPersistentDisk portworxVolume quobyte rbd scaleIO storageos vsphereVolume`) {
		rules["volumes."+source] = refuse("nothing here makes such volumes: use emptyDir, configMap, secret, downwardAPI, projected or hostPath")
	}
	for _, call := range []string{"livenessProbe", "readinessProbe", "startupProbe", "lifecycle.postStart", "lifecycle.preStop"} {
		rules["containers."+call+".httpGet.protocol"] = refuse("probes and hooks speak HTTP/1.1: leave it out", "HTTP1")
		if !strings.HasPrefix(call, "lifecycle") {
			rules["containers."+call+".grpc.mode"] = refuse("probes of gRPC are without TLS: leave it out", "Plaintext")
		}
	}
	return rules
}()

// sidecar tells whether it is an init container that runs on beside the others.
func sidecar(parent any, spec *corev1.PodSpec) bool {
	for i := range spec.InitContainers {
		if c := &spec.InitContainers[i]; c == parent {
			return *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
		}
	}
	return false
}

func hasDisk(l corev1.ResourceList) bool {
	_, has := l[corev1.ResourceEphemeralStorage]
	return has
}

// done are the fields that the node does, or the API, admission, the scheduler or a controller before it; of those with a star, all that is below.
const done = `
	restartPolicy terminationGracePeriodSeconds activeDeadlineSeconds dnsPolicy serviceAccountName serviceAccount automountServiceAccountToken hostNetwork hostPID hostIPC
	hostname subdomain hostAliases.ip hostAliases.hostnames dnsConfig.nameservers dnsConfig.searches dnsConfig.options.name dnsConfig.options.value readinessGates.conditionType
	enableServiceLinks nodeName nodeSelector schedulerName affinity.* tolerations.* priorityClassName priority preemptionPolicy overhead topologySpreadConstraints.* schedulingGates.name

	securityContext.runAsUser securityContext.runAsGroup securityContext.runAsNonRoot securityContext.supplementalGroups securityContext.fsGroup
	securityContext.fsGroupChangePolicy securityContext.seLinuxChangePolicy

	containers.name containers.image containers.command containers.args containers.workingDir containers.imagePullPolicy containers.stdin containers.stdinOnce containers.tty
	containers.terminationMessagePath containers.terminationMessagePolicy containers.resizePolicy.*
	containers.ports.name containers.ports.containerPort containers.ports.protocol containers.ports.hostIP
	containers.envFrom.prefix containers.envFrom.configMapRef.* containers.envFrom.secretRef.*
	containers.env.name containers.env.value containers.env.valueFrom.fieldRef.* containers.env.valueFrom.resourceFieldRef.*
	containers.env.valueFrom.configMapKeyRef.* containers.env.valueFrom.secretKeyRef.*
	containers.volumeMounts.name containers.volumeMounts.readOnly containers.volumeMounts.mountPath containers.volumeMounts.subPath containers.volumeMounts.subPathExpr
	containers.securityContext.capabilities.add containers.securityContext.capabilities.drop containers.securityContext.privileged containers.securityContext.runAsUser
	containers.securityContext.runAsGroup containers.securityContext.runAsNonRoot containers.securityContext.readOnlyRootFilesystem
	containers.securityContext.allowPrivilegeEscalation
	containers.lifecycle.stopSignal containers.lifecycle.postStart.sleep.seconds containers.lifecycle.preStop.sleep.seconds

	volumes.name volumes.hostPath.path volumes.hostPath.type
	volumes.secret.secretName volumes.secret.optional volumes.configMap.name volumes.configMap.optional
	volumes.projected.sources.secret.name volumes.projected.sources.secret.optional volumes.projected.sources.configMap.name volumes.projected.sources.configMap.optional
	volumes.projected.sources.serviceAccountToken.audience volumes.projected.sources.serviceAccountToken.expirationSeconds volumes.projected.sources.serviceAccountToken.path
	volumes.secret.defaultMode volumes.configMap.defaultMode volumes.downwardAPI.defaultMode volumes.projected.defaultMode
	volumes.secret.items.key volumes.secret.items.path volumes.secret.items.mode volumes.configMap.items.key volumes.configMap.items.path volumes.configMap.items.mode
	volumes.projected.sources.secret.items.key volumes.projected.sources.secret.items.path volumes.projected.sources.secret.items.mode
	volumes.projected.sources.configMap.items.key volumes.projected.sources.configMap.items.path volumes.projected.sources.configMap.items.mode
	volumes.downwardAPI.items.path volumes.downwardAPI.items.mode volumes.downwardAPI.items.fieldRef.* volumes.downwardAPI.items.resourceFieldRef.*
	volumes.projected.sources.downwardAPI.items.path volumes.projected.sources.downwardAPI.items.mode volumes.projected.sources.downwardAPI.items.fieldRef.*
	volumes.projected.sources.downwardAPI.items.resourceFieldRef.*
`

// doneCalls are those of done below each probe and hook, doneProbes those below each probe.
const (
	doneCalls = `exec.command httpGet.path httpGet.port httpGet.host httpGet.scheme httpGet.httpHeaders.name httpGet.httpHeaders.value tcpSocket.port tcpSocket.host`

	doneProbes = `grpc.port grpc.service initialDelaySeconds timeoutSeconds periodSeconds successThreshold failureThreshold terminationGracePeriodSeconds`
)
