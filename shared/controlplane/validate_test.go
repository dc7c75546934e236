package controlplane

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/job"
)

// TestLimitsAndFallback: figures that make no sense are refused.
func TestLimitsAndFallback(t *testing.T) {
	s := newStack(t)
	minus := -1
	for words, spec := range map[string]job.Spec{
		"max_runtime,":             {MaxRuntime: -1},
		"max_cost and":             {MaxCost: -0.5},
		"limits that you do not":   {MaxPreemptions: &minus},
		"give a later one":         {Deadline: s.now},
		"for spot jobs":            {Fallback: "on-demand"},
		"write on-demand or":       {Spot: true, Fallback: "prayer"},
		"write for example 60s":    {Spot: true, Fallback: "on-demand=soon"},
		"the time cannot be negat": {Spot: true, Fallback: "on-demand=-1m"},
	} {
		spec.Image = "i"
		_, err := s.Submit(t.Context(), api.SubmitRequest{Spec: spec}, "")
		refused(t, err, http.StatusBadRequest, words)
	}
	none := 0
	s.submit(job.Spec{Spot: true, Fallback: "on-demand=0s", MaxPreemptions: &none, MaxCost: 1, MaxRuntime: job.Duration(time.Second), Deadline: s.now.Add(time.Second)})
}

// TestSyncURLs: only buckets that a VM can reach, without credentials in them.
func TestSyncURLs(t *testing.T) {
	s := newStack(t)
	for words, spec := range map[string]job.Spec{
		"input \"data\" is no bucket URL: write for example file:///": {Input: "data"},
		"output \":\" is no bucket URL":                               {Output: ":"},
		"must not carry credentials":                                  {Input: "s3://key:hunter2@bucket"},
		"reach buckets of file, s3 only":                              {Output: "gs://bucket"},
		"three slashes":                                               {Input: "file://data"},
		"absolute path":                                               {Input: "file:///"},
		"need an output":                                              {OutputDelete: true},
		"exclude each other":                                          {Output: "s3://b", OutputDelete: true, OutputWriteOnce: true},
		"the same place":                                              {Input: "s3://b", Output: "s3://b"},
	} {
		spec.Image = "i"
		_, err := s.Submit(t.Context(), api.SubmitRequest{Spec: spec}, "")
		refused(t, err, http.StatusBadRequest, words)
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("echoed: %v", err)
		}
	}
	id := s.running(job.Spec{Input: "s3://in", Output: "file:///out"})
	c, err := s.Credentials(t.Context(), id, 1, secretOf(s.vm(id)))
	s.must(err)
	if c.Input == nil || c.Input.URL != "s3://in" || c.Output == nil || c.Output.URL != "file:///out" || c.Checkpoint != nil {
		t.Errorf("%+v", c)
	}
}

// TestSecretsAreNamedBySource: what may be the secret itself is neither taken nor
// echoed.
func TestSecretsAreNamedBySource(t *testing.T) {
	s := newStack(t)
	for words, spec := range map[string]job.Spec{
		"secret A is no source of a secret: write file:": {Secret: map[string]string{"A": "hunter2"}},
		"secret B is no source":                          {Secret: map[string]string{"B": "file:"}},
		"secret C is no source":                          {Secret: map[string]string{"C": "vault:hunter2"}},
		"registry_auth is no source":                     {RegistryAuth: "user:hunter2"},
		"not the name of a variable":                     {Secret: map[string]string{"a b": "env:X"}},
		"ANYCLOUD_X":                                     {Secret: map[string]string{"ANYCLOUD_X": "env:X"}},
		"leave one out":                                  {Secret: map[string]string{"A": "env:X"}, Env: map[string]string{"A": "hunter2"}},
	} {
		spec.Image = "i"
		_, err := s.Submit(t.Context(), api.SubmitRequest{Spec: spec}, "")
		refused(t, err, http.StatusBadRequest, words)
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("echoed: %v", err)
		}
	}
	s.submit(job.Spec{Secret: map[string]string{"A": "env:X", "B": "file:/etc/token"}, RegistryAuth: "env:AUTH"})
}

func TestSubmitRefusesWhatCannotBe(t *testing.T) {
	s := newStack(t)
	long := job.Duration(2 * time.Hour)
	for words, spec := range map[string]job.Spec{
		"no image is given":         {},
		"is not an image reference": {Image: "Not An Image"},
		"needs a command":           {Image: "exec:"},
		"at most 100":               {Image: "i", Name: strings.Repeat("n", 101)},
		"exclude each other":        {Image: "i", GPU: "a100", VMType: "m1"},
		"is no GPU":                 {Image: "i", GPU: "A 100"},
		"too many GPUs":             {Image: "i", GPU: "a100:999"},
		"amd64 or arm64":            {Image: "i", Arch: "mips"},
		"cannot be negative":        {Image: "i", Memory: -1},
		"0 means none":              {Image: "i", Retries: -1},
		"at least 1s":               {Image: "i", CheckpointInterval: job.Duration(time.Millisecond)},
		"0s to 1h":                  {Image: "i", Grace: &long},
		"0 (never freeze) to 10s":   {Image: "i", MaxPause: &long},
		"keep_checkpoint":           {Image: "i", KeepCheckpoint: new(job.Duration(-1))},
		"at least 1m, or never":     {Image: "i", UnresponsiveAfter: job.Duration(time.Second)},
		"not the name of":           {Image: "i", Env: map[string]string{"1A": "x"}},
		"the agent's own":           {Image: "i", Env: map[string]string{"ANYCLOUD_JOB_ID": "x"}},
		"is not configured here":    {Image: "i", Clouds: []string{"moon"}},
		"one cloud":                 {Image: "i", Clouds: []string{"fake", "fake"}},
		"NUL":                       {Image: "i", Command: []string{"a\x00b"}},
	} {
		_, err := s.Submit(t.Context(), api.SubmitRequest{Spec: spec}, "")
		refused(t, err, http.StatusBadRequest, words)
	}
	_, err := s.Submit(t.Context(), api.SubmitRequest{Spec: job.Spec{Image: "i", VMType: "none.such"}}, "")
	refused(t, err, http.StatusUnprocessableEntity, "no machine can hold")
	if page, err := s.List(t.Context(), api.ListQuery{All: true}); err != nil || len(page.Jobs) > 0 {
		t.Errorf("jobs were made: %+v, %v", page.Jobs, err)
	}
}

// TestSubmitRefusesWhatNoProgramCanBeGiven: what would fail on the VM only, or
// not fit into the table.
func TestSubmitRefusesWhatNoProgramCanBeGiven(t *testing.T) {
	s := newStack(t)
	for words, spec := range map[string]job.Spec{
		"exec: alone":      {Image: "exec:train", Command: []string{"train"}},
		"cannot be shown":  {Image: "i", Name: "red\x1b[31m"},
		"absolute path":    {Image: "i", Workdir: "work"},
		"base64":           {Image: "i", Env: map[string]string{"A": "x\x00"}},
		"at most 131072":   {Image: "i", Env: map[string]string{"A": strings.Repeat("x", MaxSpec)}},
		"give 0s to 1h":    {Image: "i", Grace: new(job.Duration(-1))},
		"cpus, memory":     {Image: "i", CPUs: -1},
		"at least 1m":      {Image: "i", UnresponsiveAfter: -2},
		"checkpoint_inter": {Image: "i", CheckpointInterval: job.Duration(-time.Minute)},
	} {
		_, err := s.Submit(t.Context(), api.SubmitRequest{Spec: spec}, "")
		refused(t, err, http.StatusBadRequest, words)
	}
	for words, spec := range map[string]job.Spec{
		"moon-1": {Image: "i", Region: []string{"moon-1"}},
		"zones":  {Image: "i", Zone: []string{"fake-1z"}},
		"h100":   {Image: "i", GPU: "h100"},

		"did you mean a100-80gb?": {Image: "i", GPU: "a100-80g:2"},
	} {
		_, err := s.Submit(t.Context(), api.SubmitRequest{Spec: spec}, "")
		refused(t, err, http.StatusUnprocessableEntity, words)
	}
	zero := s.job(s.submit(job.Spec{Image: "i", Grace: new(job.Duration(0)), KeepCheckpoint: new(job.Duration(0)), MaxPause: new(job.Duration(0))})).Spec
	if zero.GraceTime() != 0 || zero.KeepTime() != 0 || *zero.MaxPause != 0 {
		t.Errorf("what was set to 0 became a default: %+v", zero)
	}
	s.submit(job.Spec{Image: "i", Name: strings.Repeat("ß", 100), Workdir: "/work", UnresponsiveAfter: job.Never})
}
