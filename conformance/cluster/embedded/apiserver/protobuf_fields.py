"""Field numbers of the messages that protobuf clients send (k8s.io/api and apimachinery, generated.proto).

Per message: pairs of number and `name:type`. `name?` keeps an explicit zero (a pointer in Go), `name*` is a
list, `name%` a map with string keys, `=Type` is embedded.
"""

from __future__ import annotations

from collections.abc import Mapping

_RBAC = "rbac.authorization.k8s.io/v1"

# (apiVersion, kind) -> message
KINDS: Mapping[tuple[str, str], str] = {
    ("v1", "Namespace"): "Namespace",
    ("v1", "ConfigMap"): "ConfigMap",
    ("v1", "Secret"): "Secret",
    ("v1", "ServiceAccount"): "ServiceAccount",
    ("v1", "Service"): "Service",
    ("v1", "Pod"): "Pod",
    ("v1", "ResourceQuota"): "ResourceQuota",
    ("v1", "DeleteOptions"): "DeleteOptions",
    ("apps/v1", "Deployment"): "Deployment",
    ("policy/v1", "Eviction"): "Eviction",
    ("authentication.k8s.io/v1", "TokenRequest"): "TokenRequest",
    ("authentication.k8s.io/v1", "TokenReview"): "TokenReview",
    ("authentication.k8s.io/v1", "SelfSubjectReview"): "SelfSubjectReview",
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview"): "SelfSubjectAccessReview",
    ("authorization.k8s.io/v1", "SelfSubjectRulesReview"): "SelfSubjectRulesReview",
    ("authorization.k8s.io/v1", "SubjectAccessReview"): "SubjectAccessReview",
    ("coordination.k8s.io/v1", "Lease"): "Lease",
    (_RBAC, "Role"): "Role",
    (_RBAC, "ClusterRole"): "Role",
    (_RBAC, "RoleBinding"): "RoleBinding",
    (_RBAC, "ClusterRoleBinding"): "RoleBinding",
}

MESSAGES: Mapping[str, str] = {
    # apimachinery
    "_Quantity": "1 string:string",
    "_Time": "1 seconds:int 2 nanos:int",
    "_IntOrString": "1 type:int 2 intVal:int 3 strVal:string",
    "_StringList": "1 items*:string",
    "ObjectMeta": """
        1 name:string 2 generateName:string 3 namespace:string 4 selfLink:string 5 uid:string
        6 resourceVersion:string 7 generation:int 8 creationTimestamp:Time 9 deletionTimestamp?:Time
        10 deletionGracePeriodSeconds?:int 11 labels%:string 12 annotations%:string
        13 ownerReferences*:OwnerReference 14 finalizers*:string""",
    "OwnerReference": """
        1 kind:string 3 name:string 4 uid:string 5 apiVersion:string 6 controller?:bool
        7 blockOwnerDeletion?:bool""",
    "LabelSelector": "1 matchLabels%:string 2 matchExpressions*:LabelSelectorRequirement",
    "LabelSelectorRequirement": "1 key:string 2 operator:string 3 values*:string",
    "DeleteOptions": """
        1 gracePeriodSeconds?:int 2 preconditions?:Preconditions 3 orphanDependents?:bool
        4 propagationPolicy:string 5 dryRun*:string""",
    "Preconditions": "1 uid:string 2 resourceVersion:string",
    # core/v1
    "Namespace": "1 metadata:ObjectMeta 2 spec:NamespaceSpec 3 status:NamespaceStatus",
    "NamespaceSpec": "1 finalizers*:string",
    "NamespaceStatus": "1 phase:string",
    "ConfigMap": "1 metadata:ObjectMeta 2 data%:string 3 binaryData%:bytes 4 immutable?:bool",
    "Secret": """
        1 metadata:ObjectMeta 2 data%:bytes 3 type:string 4 stringData%:string 5 immutable?:bool""",
    "ServiceAccount": """
        1 metadata:ObjectMeta 2 secrets*:ObjectReference 3 imagePullSecrets*:LocalObjectReference
        4 automountServiceAccountToken?:bool""",
    "ObjectReference": """
        1 kind:string 2 namespace:string 3 name:string 4 uid:string 5 apiVersion:string
        6 resourceVersion:string 7 fieldPath:string""",
    "LocalObjectReference": "1 name:string",
    "ResourceQuota": "1 metadata:ObjectMeta 2 spec:ResourceQuotaSpec",
    "ResourceQuotaSpec": "1 hard%:Quantity 2 scopes*:string",
    "Service": "1 metadata:ObjectMeta 2 spec:ServiceSpec",
    "ServiceSpec": """
        1 ports*:ServicePort 2 selector%:string 3 clusterIP:string 4 type:string 5 externalIPs*:string
        7 sessionAffinity:string 8 loadBalancerIP:string 9 loadBalancerSourceRanges*:string
        10 externalName:string 11 externalTrafficPolicy:string 12 healthCheckNodePort:int
        13 publishNotReadyAddresses:bool 17 ipFamilyPolicy:string 18 clusterIPs*:string 19 ipFamilies*:string
        20 allocateLoadBalancerNodePorts?:bool 21 loadBalancerClass:string 22 internalTrafficPolicy:string""",
    "ServicePort": """
        1 name:string 2 protocol:string 3 port:int 4 targetPort:IntOrString 5 nodePort:int
        6 appProtocol:string""",
    "Pod": "1 metadata:ObjectMeta 2 spec:PodSpec",
    "PodTemplateSpec": "1 metadata:ObjectMeta 2 spec:PodSpec",
    "PodSpec": """
        1 volumes*:Volume 2 containers*:Container 3 restartPolicy:string
        4 terminationGracePeriodSeconds?:int 5 activeDeadlineSeconds?:int 6 dnsPolicy:string
        7 nodeSelector%:string 8 serviceAccountName:string 9 serviceAccount:string 10 nodeName:string
        11 hostNetwork:bool 12 hostPID:bool 13 hostIPC:bool 14 securityContext?:PodSecurityContext
        15 imagePullSecrets*:LocalObjectReference 16 hostname:string 17 subdomain:string
        19 schedulerName:string 20 initContainers*:Container 21 automountServiceAccountToken?:bool
        22 tolerations*:Toleration 23 hostAliases*:HostAlias 24 priorityClassName:string 25 priority?:int
        27 shareProcessNamespace?:bool 29 runtimeClassName?:string 30 enableServiceLinks?:bool""",
    "HostAlias": "1 ip:string 2 hostnames*:string",
    "Toleration": "1 key:string 2 operator:string 3 value:string 4 effect:string 5 tolerationSeconds?:int",
    "PodSecurityContext": """
        2 runAsUser?:int 3 runAsNonRoot?:bool 4 supplementalGroups*:int 5 fsGroup?:int 6 runAsGroup?:int""",
    "Container": """
        1 name:string 2 image:string 3 command*:string 4 args*:string 5 workingDir:string
        6 ports*:ContainerPort 7 env*:EnvVar 8 resources:ResourceRequirements 9 volumeMounts*:VolumeMount
        10 livenessProbe:Probe 11 readinessProbe:Probe 12 lifecycle:Lifecycle
        13 terminationMessagePath:string 14 imagePullPolicy:string 15 securityContext?:SecurityContext
        16 stdin:bool 17 stdinOnce:bool 18 tty:bool 19 envFrom*:EnvFromSource
        20 terminationMessagePolicy:string 22 startupProbe:Probe 24 restartPolicy:string""",
    "ContainerPort": "1 name:string 2 hostPort:int 3 containerPort:int 4 protocol:string 5 hostIP:string",
    "EnvVar": "1 name:string 2 value:string 3 valueFrom:EnvVarSource",
    "EnvVarSource": """
        1 fieldRef:ObjectFieldSelector 3 configMapKeyRef:KeySelector 4 secretKeyRef:KeySelector""",
    "ObjectFieldSelector": "1 apiVersion:string 2 fieldPath:string",
    "KeySelector": "1 =LocalObjectReference 2 key:string 3 optional?:bool",
    "EnvFromSource": "1 prefix:string 2 configMapRef:EnvSource 3 secretRef:EnvSource",
    "EnvSource": "1 =LocalObjectReference 2 optional?:bool",
    "ResourceRequirements": "1 limits%:Quantity 2 requests%:Quantity",
    "VolumeMount": """
        1 name:string 2 readOnly:bool 3 mountPath:string 4 subPath:string 5 mountPropagation:string
        6 subPathExpr:string""",
    "Probe": """
        1 =ProbeHandler 2 initialDelaySeconds:int 3 timeoutSeconds:int 4 periodSeconds:int
        5 successThreshold:int 6 failureThreshold:int 7 terminationGracePeriodSeconds?:int""",
    "ProbeHandler": "1 exec:ExecAction 2 httpGet:HTTPGetAction 3 tcpSocket:TCPSocketAction",
    "Lifecycle": "1 postStart:ProbeHandler 2 preStop:ProbeHandler",
    "ExecAction": "1 command*:string",
    "HTTPGetAction": """
        1 path:string 2 port:IntOrString 3 host:string 4 scheme:string 5 httpHeaders*:HTTPHeader""",
    "HTTPHeader": "1 name:string 2 value:string",
    "TCPSocketAction": "1 port:IntOrString 2 host:string",
    "SecurityContext": """
        1 capabilities:Capabilities 2 privileged?:bool 4 runAsUser?:int 5 runAsNonRoot?:bool
        6 readOnlyRootFilesystem?:bool 7 allowPrivilegeEscalation?:bool 8 runAsGroup?:int""",
    "Capabilities": "1 add*:string 2 drop*:string",
    "Volume": "1 name:string 2 =VolumeSource",
    "VolumeSource": """
        2 emptyDir?:EmptyDir 6 secret:SecretVolume 16 downwardAPI:DownwardAPI 19 configMap:ConfigMapVolume
        26 projected:Projected""",
    "EmptyDir": "1 medium:string 2 sizeLimit?:Quantity",
    "SecretVolume": "1 secretName:string 2 items*:KeyToPath 3 defaultMode?:int 4 optional?:bool",
    "ConfigMapVolume": "1 =LocalObjectReference 2 items*:KeyToPath 3 defaultMode?:int 4 optional?:bool",
    "KeyToPath": "1 key:string 2 path:string 3 mode?:int",
    "DownwardAPI": "1 items*:DownwardAPIFile 2 defaultMode?:int",
    "DownwardAPIFile": "1 path:string 2 fieldRef:ObjectFieldSelector 4 mode?:int",
    "Projected": "1 sources*:Projection 2 defaultMode?:int",
    "Projection": """
        1 secret:ConfigMapProjection 2 downwardAPI:DownwardAPI 3 configMap:ConfigMapProjection
        4 serviceAccountToken:TokenProjection""",
    "ConfigMapProjection": "1 =LocalObjectReference 2 items*:KeyToPath 4 optional?:bool",
    "TokenProjection": "1 audience:string 2 expirationSeconds?:int 3 path:string",
    # apps/v1
    "Deployment": "1 metadata:ObjectMeta 2 spec:DeploymentSpec",
    "DeploymentSpec": """
        1 replicas?:int 2 selector:LabelSelector 3 template:PodTemplateSpec 4 strategy:DeploymentStrategy
        5 minReadySeconds:int 6 revisionHistoryLimit?:int 7 paused:bool 9 progressDeadlineSeconds?:int""",
    "DeploymentStrategy": "1 type:string 2 rollingUpdate:RollingUpdate",
    "RollingUpdate": "1 maxUnavailable?:IntOrString 2 maxSurge?:IntOrString",
    # policy/v1
    "Eviction": "1 metadata:ObjectMeta 2 deleteOptions:DeleteOptions",
    # coordination.k8s.io/v1
    "Lease": "1 metadata:ObjectMeta 2 spec:LeaseSpec",
    "LeaseSpec": """
        1 holderIdentity:string 2 leaseDurationSeconds?:int 3 acquireTime:MicroTime 4 renewTime:MicroTime
        5 leaseTransitions?:int""",
    # authentication.k8s.io/v1
    "TokenRequest": "1 metadata:ObjectMeta 2 spec:TokenRequestSpec",
    "TokenRequestSpec": "1 audiences*:string 3 boundObjectRef:BoundObjectReference 4 expirationSeconds?:int",
    "BoundObjectReference": "1 kind:string 2 apiVersion:string 3 name:string 4 uid:string",
    "SelfSubjectReview": "1 metadata:ObjectMeta",
    "TokenReview": "1 metadata:ObjectMeta 2 spec:TokenReviewSpec",
    "TokenReviewSpec": "1 token:string 2 audiences*:string",
    # authorization.k8s.io/v1
    "SelfSubjectAccessReview": "1 metadata:ObjectMeta 2 spec:SelfSubjectAccessReviewSpec",
    "SelfSubjectAccessReviewSpec": """
        1 resourceAttributes:ResourceAttributes 2 nonResourceAttributes:NonResourceAttributes""",
    "SelfSubjectRulesReview": "1 metadata:ObjectMeta 2 spec:SelfSubjectRulesReviewSpec",
    "SelfSubjectRulesReviewSpec": "1 namespace:string",
    "SubjectAccessReview": "1 metadata:ObjectMeta 2 spec:SubjectAccessReviewSpec",
    "SubjectAccessReviewSpec": """
        1 resourceAttributes:ResourceAttributes 2 nonResourceAttributes:NonResourceAttributes 3 user:string
        4 groups*:string 5 extra%:StringList 6 uid:string""",
    "ResourceAttributes": """
        1 namespace:string 2 verb:string 3 group:string 4 version:string 5 resource:string
        6 subresource:string 7 name:string""",
    "NonResourceAttributes": "1 path:string 2 verb:string",
    # rbac.authorization.k8s.io/v1
    "Role": "1 metadata:ObjectMeta 2 rules*:PolicyRule",
    "PolicyRule": """
        1 verbs*:string 2 apiGroups*:string 3 resources*:string 4 resourceNames*:string
        5 nonResourceURLs*:string""",
    "RoleBinding": "1 metadata:ObjectMeta 2 subjects*:Subject 3 roleRef:RoleRef",
    "Subject": "1 kind:string 2 apiGroup:string 3 name:string 4 namespace:string",
    "RoleRef": "1 apiGroup:string 2 kind:string 3 name:string",
}

# Fields that the messages have in Kubernetes and that no table above tells: kept as they come, unchecked.
UNTOLD: Mapping[str, str] = {
    "ServiceSpec": "sessionAffinityConfig trafficDistribution",
    "PodSpec": """
        affinity dnsConfig ephemeralContainers hostUsers hostnameOverride os overhead preemptionPolicy
        readinessGates resourceClaims resources schedulingGates setHostnameAsFQDN topologySpreadConstraints
        workloadRef""",
    "PodSecurityContext": """
        appArmorProfile fsGroupChangePolicy seLinuxChangePolicy seLinuxOptions seccompProfile
        supplementalGroupsPolicy sysctls windowsOptions""",
    "SecurityContext": "appArmorProfile procMount seLinuxOptions seccompProfile windowsOptions",
    "Container": "resizePolicy restartPolicyRules volumeDevices",
    "EnvVarSource": "resourceFieldRef fileKeyRef",
    "ResourceRequirements": "claims",
    "VolumeMount": "recursiveReadOnly",
    "ProbeHandler": "grpc sleep",
    "Lifecycle": "stopSignal",
    "VolumeSource": """
        awsElasticBlockStore azureDisk azureFile cephfs cinder csi ephemeral fc flexVolume flocker
        gcePersistentDisk gitRepo glusterfs hostPath image iscsi nfs persistentVolumeClaim
        photonPersistentDisk portworxVolume quobyte rbd scaleIO storageos vsphereVolume""",
    "DownwardAPIFile": "resourceFieldRef",
    "Projection": "clusterTrustBundle podCertificate",
}
