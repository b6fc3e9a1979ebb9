// pause: holds a pod's namespaces, and the cluster's own. Go rather than C, so that no C compiler is needed.
module nereus.dev/localcluster/pause

go 1.25.0
