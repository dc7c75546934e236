package job

import "slices"

// Active says whether a sweep must look at the job: it has not ended, or its
// end left something to do or to watch (VMs, a bucket with an end, effects not
// known to be sent). Stores index it.
func (j *Job) Active() bool {
	if !j.State.Terminal() || len(j.Doomed) > 0 || len(j.Kept) > 0 || len(j.Outbox) > 0 {
		return true
	}
	if j.Bucket == nil || j.Bucket.State == BucketDisposed {
		return false
	}
	return j.Bucket.State == BucketDisposing || !j.KeepUntil.IsZero()
}

// VMIDs lists the VMs that the record names and that are not known to be gone,
// each once: those of attempts, doomed and kept ones. Stores index them, so
// that a notice finds its job.
func (j *Job) VMIDs() []string {
	var ids []string
	add := func(id string) {
		if id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	for i := range j.Attempts {
		if !j.Attempts[i].Gone {
			add(j.Attempts[i].VMID)
		}
	}
	for i := range j.Doomed {
		add(j.Doomed[i].VMID)
	}
	for i := range j.Kept {
		add(j.Kept[i].VMID)
	}
	return ids
}
