package sim

import (
	"time"

	"anycloud/shared/cloud"
	"anycloud/shared/cloud/fakecloud"
	"anycloud/shared/job"
)

// drought takes the room out of some pools for a while.
func (w *world) drought(d time.Duration) {
	zones := map[string]bool{}
	for _, z := range w.cloud.Zones {
		if w.s.chance(0.7) {
			zones[z] = true
		}
	}
	w.cloud.Set(func(k *fakecloud.Knobs) { k.Full = func(p job.Placement) bool { return zones[p.Zone] } })
	w.s.at(d, func() { w.cloud.Set(func(k *fakecloud.Knobs) { k.Full = nil }) })
}

// quota forbids further VMs for a while.
func (w *world) quota(d time.Duration) {
	w.cloud.Set(func(k *fakecloud.Knobs) { k.Quota = max(1, len(w.liveIDs)) })
	w.s.at(d, func() { w.cloud.Set(func(k *fakecloud.Knobs) { k.Quota = 0 }) })
}

// throttle refuses many calls for a while.
func (w *world) throttle(d time.Duration) {
	n := 2 + w.s.rng.IntN(4)
	w.cloud.Set(func(k *fakecloud.Knobs) { k.ThrottleEvery = n })
	w.s.at(d, func() { w.cloud.Set(func(k *fakecloud.Knobs) { k.ThrottleEvery = 0 }) })
}

// launchFate decides what becomes of a launch that nothing else refuses.
func (w *world) launchFate(cloud.LaunchRequest) fakecloud.LaunchFault {
	if !w.faulty {
		return fakecloud.LaunchFault{}
	}
	switch {
	case w.s.chance(w.p.unanswered * 3):
		w.count(faultLaunchLost)
		return fakecloud.LaunchFault{Unanswered: true}
	case w.s.chance(w.p.unanswered * 3):
		w.count(faultLaunchLate)
		return fakecloud.LaunchFault{Late: w.s.between(time.Second, 4*time.Minute)}
	}
	return fakecloud.LaunchFault{}
}

// sawLaunchError counts the refusals that the cloud really gave.
func (w *world) sawLaunchError(err error) {
	for class, fault := range map[error]string{cloud.ErrCapacity: faultCapacity, cloud.ErrQuota: faultQuota, cloud.ErrThrottled: faultThrottled} {
		if isClass(err, class) {
			w.count(fault)
		}
	}
}
