//! Fields of the kubelet's configuration and feature gates by release: facts, made from the sources of
//! v1.20.2, v1.35.6 and v1.36.2 (`KubeletConfiguration` in staging/src/k8s.io/kubelet/config/v1beta1;
//! the gates in pkg/features and the `features` packages of the staging modules). Between v1.20 and v1.36
//! no field was taken out of `KubeletConfiguration`; those that came are below.

/// Fields that all supported releases have.
pub(super) const FIELDS_OF_20: &[&str] = &[
    "address", "allowedUnsafeSysctls", "authentication", "authorization", "cgroupDriver", "cgroupRoot",
    "cgroupsPerQOS", "clusterDNS", "clusterDomain", "configMapAndSecretChangeDetectionStrategy",
    "containerLogMaxFiles", "containerLogMaxSize", "contentType", "cpuCFSQuota", "cpuCFSQuotaPeriod",
    "cpuManagerPolicy", "cpuManagerReconcilePeriod", "enableContentionProfiling", "enableControllerAttachDetach",
    "enableDebuggingHandlers", "enableServer", "enableSystemLogHandler", "enforceNodeAllocatable", "eventBurst",
    "eventRecordQPS", "evictionHard", "evictionMaxPodGracePeriod", "evictionMinimumReclaim",
    "evictionPressureTransitionPeriod", "evictionSoft", "evictionSoftGracePeriod", "failSwapOn", "featureGates",
    "fileCheckFrequency", "hairpinMode", "healthzBindAddress", "healthzPort", "httpCheckFrequency",
    "imageGCHighThresholdPercent", "imageGCLowThresholdPercent", "imageMinimumGCAge", "iptablesDropBit",
    "iptablesMasqueradeBit", "kernelMemcgNotification", "kubeAPIBurst", "kubeAPIQPS", "kubeReserved",
    "kubeReservedCgroup", "kubeletCgroups", "logging", "makeIPTablesUtilChains", "maxOpenFiles", "maxPods",
    "nodeLeaseDurationSeconds", "nodeStatusMaxImages", "nodeStatusReportFrequency", "nodeStatusUpdateFrequency",
    "oomScoreAdj", "podCIDR", "podPidsLimit", "podsPerCore", "port", "protectKernelDefaults", "providerID",
    "qosReserved", "readOnlyPort", "registryBurst", "registryPullQPS", "reservedSystemCPUs", "resolvConf",
    "rotateCertificates", "runOnce", "runtimeRequestTimeout", "serializeImagePulls", "serverTLSBootstrap",
    "showHiddenMetricsForVersion", "shutdownGracePeriod", "shutdownGracePeriodCriticalPods", "staticPodPath",
    "staticPodURL", "staticPodURLHeader", "streamingConnectionIdleTimeout", "syncFrequency", "systemCgroups",
    "systemReserved", "systemReservedCgroup", "tlsCertFile", "tlsCipherSuites", "tlsMinVersion", "tlsPrivateKeyFile",
    "topologyManagerPolicy", "topologyManagerScope", "volumePluginDir", "volumeStatsAggPeriod",
];

/// Fields that v1.20 does not have and v1.35 has.
pub(super) const FIELDS_AFTER_20: &[&str] = &[
    "containerLogMaxWorkers", "containerLogMonitorInterval", "containerRuntimeEndpoint", "cpuManagerPolicyOptions",
    "crashLoopBackOff", "enableDebugFlagsHandler", "enableProfilingHandler", "enableSystemLogQuery", "failCgroupV1",
    "imageMaximumGCAge", "imagePullCredentialsVerificationPolicy", "imageServiceEndpoint",
    "localStorageCapacityIsolation", "maxParallelImagePulls", "memoryManagerPolicy", "memorySwap",
    "memoryThrottlingFactor", "mergeDefaultEvictionSettings", "podLogsDir", "preloadedImagesVerificationAllowlist",
    "registerNode", "registerWithTaints", "reservedMemory", "seccompDefault", "shutdownGracePeriodByPodPriority",
    "singleProcessOOMKill", "topologyManagerPolicyOptions", "tracing", "userNamespaces",
];

/// Fields that v1.36 has and v1.35 does not.
pub(super) const FIELDS_AFTER_35: &[&str] = &[
    "memoryReservationPolicy", "tlsCurvePreferences",
];

/// Gates of v1.20 that v1.35 does not know, since then or before.
pub(super) const GATES_GONE_BY_35: &[&str] = &[
    "APIListChunking", "APIPriorityAndFairness", "AdvancedAuditing", "AllowInsecureBackendProxy", "AppArmor",
    "AttachVolumeLimit", "BalanceAttachedNodeVolumes", "BlockVolume", "BoundServiceAccountTokenVolume", "CPUManager",
    "CRIContainerLogRotation", "CSIBlockVolume", "CSIDriverRegistry", "CSIInlineVolume", "CSIMigration",
    "CSIMigrationAWS", "CSIMigrationAWSComplete", "CSIMigrationAzureDisk", "CSIMigrationAzureDiskComplete",
    "CSIMigrationAzureFile", "CSIMigrationAzureFileComplete", "CSIMigrationGCE", "CSIMigrationGCEComplete",
    "CSIMigrationOpenStack", "CSIMigrationOpenStackComplete", "CSIMigrationvSphere", "CSIMigrationvSphereComplete",
    "CSINodeInfo", "CSIServiceAccountToken", "CSIStorageCapacity", "CSIVolumeFSGroupPolicy",
    "ConfigurableFSGroupPolicy", "CronJobControllerV2", "DefaultPodTopologySpread", "DevicePlugins",
    "DisableAcceleratorUsageMetrics", "DownwardAPIHugePages", "DryRun", "DynamicKubeletConfig",
    "EfficientWatchResumption", "EndpointSlice", "EndpointSliceNodeName", "EndpointSliceProxying",
    "EndpointSliceTerminatingCondition", "EphemeralContainers", "EvenPodsSpread", "ExpandCSIVolumes",
    "ExpandInUsePersistentVolumes", "ExpandPersistentVolumes", "ExperimentalHostUserNamespaceDefaulting",
    "ExternalPolicyForExternalIP", "GenericEphemeralVolume", "HPAContainerMetrics", "HugePageStorageMediumSize",
    "HyperVContainer", "IPv6DualStack", "ImmutableEphemeralVolumes", "KubeletCredentialProviders",
    "KubeletPodResources", "LegacyNodeRoleBehavior", "LocalStorageCapacityIsolation", "MixedProtocolLBService",
    "NodeDisruptionExclusion", "NodeLease", "NonPreemptingPriority", "PodDisruptionBudget", "PodOverhead",
    "RemainingItemCount", "RemoveSelfLink", "RootCAConfigMap", "RotateKubeletClientCertificate", "RunAsGroup",
    "RuntimeClass", "SCTPSupport", "SelectorIndex", "ServerSideApply", "ServiceAccountIssuerDiscovery",
    "ServiceAppProtocol", "ServiceLBNodePortControl", "ServiceNodeExclusion", "ServiceTopology", "SetHostnameAsFQDN",
    "SizeMemoryBackedVolumes", "StartupProbe", "StorageObjectInUseProtection", "StreamingProxyRedirects",
    "SupportNodePidsLimit", "SupportPodPidsLimit", "Sysctls", "TTLAfterFinished", "TokenRequest",
    "TokenRequestProjection", "TopologyManager", "ValidateProxyRedirects", "VolumePVCDataSource",
    "VolumeSnapshotDataSource", "VolumeSubpath", "WarningHeaders", "WatchBookmark", "WindowsEndpointSliceProxying",
    "WindowsGMSA", "WindowsRunAsUserName",
];

/// Gates of v1.35 that v1.36 does not know.
pub(super) const GATES_GONE_IN_36: &[&str] = &[
    "CSIMigrationPortworx", "HonorPVReclaimPolicy", "InPlacePodVerticalScalingAllocatedStatus",
    "InTreePluginPortworxUnregister", "MemoryManager", "ServiceTrafficDistribution",
    "StructuredAuthorizationConfiguration", "TopologyAwareHints", "WatchFromStorageWithoutResourceVersion",
];
