package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"anycloud/shared/agent/keeper/joblog"
	"anycloud/shared/agent/runtime"
)

const (
	// settle is how long an exit waits for the signal that the machine's shutdown
	// sends to us as to the container, in no certain order.
	settle = 50 * time.Millisecond
	// callWithin bounds one call of an engine.
	callWithin = 30 * time.Second
	// retryEvery is the pause between tries of what must succeed.
	retryEvery = 200 * time.Millisecond
	// farewell is how long the last answers may take.
	farewell = time.Second
)

type server struct {
	dir       dir
	log       *slog.Logger
	maxPause  time.Duration
	container Container
	started   chan struct{} // closed when container is set
	exited    chan struct{} // closed when exit.json is written
	freezing  freezing

	mu         sync.Mutex
	note       *stopNote
	terminated bool // SIGTERM was sent
	kill       *time.Timer
	wg         sync.WaitGroup
}

// Run is the keeper of the container at path: it reads a Launch from standard
// input and returns when the container has ended, of which the directory then
// tells. The process must do nothing else: all its children are the container's.
func Run(path string, engines ...Engine) error {
	d := dir(path)
	lock, err := d.lock()
	if errors.Is(err, errTaken) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	defer lock.Close()
	b, err := io.ReadAll(os.Stdin)
	if err != nil {
		return fmt.Errorf("read launch: %w", err)
	}
	var l Launch
	if err := json.Unmarshal(b, &l); err != nil {
		return fmt.Errorf("read launch: %w", err) // its agent died while it wrote
	}
	l.Dir = path
	s := &server{dir: d, log: slog.New(slog.NewJSONHandler(os.Stderr, nil)), maxPause: l.Spec.MaxPause,
		started: make(chan struct{}), exited: make(chan struct{})}
	s.freezing.init()
	for _, e := range engines {
		if e.Name() == l.Engine {
			return s.run(e, &l)
		}
	}
	return fmt.Errorf("no engine %q", l.Engine)
}

func (s *server) run(e Engine, l *Launch) error {
	if exit, err := read[runtime.Exit](s.dir, "exit.json"); err != nil || exit != nil {
		return err
	}
	// Its agent's end, and a terminal's, are not ours.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE)
	shutdown := make(chan os.Signal, 1)
	signal.Notify(shutdown, syscall.SIGTERM)
	go func() {
		<-shutdown
		s.setNote(stopShutdown, time.Time{})
	}()

	rec := Record{Engine: l.Engine, ID: l.ID, Boot: bootID(), Isolation: l.Isolation,
		JobID: l.Spec.JobID, Attempt: l.Spec.Attempt, VMID: l.Spec.VMID, MaxPause: l.Spec.MaxPause}
	rebooted := false
	if l.Attach {
		old, err := read[Record](s.dir, "keeper.json")
		if err != nil || old == nil {
			return errors.Join(err, errors.New("nothing to attach to"))
		}
		rebooted, rec.StartedAt = old.Boot != rec.Boot, old.StartedAt
		if s.note, err = read[stopNote](s.dir, "stop.json"); err != nil {
			return err
		}
	}
	log, err := joblog.Open(s.dir.log())
	if err != nil {
		return s.fail(err, !l.Attach)
	}
	if err := write(s.dir, "keeper.json", rec); err != nil {
		return s.fail(err, !l.Attach)
	}
	ln, err := s.dir.listen()
	if err != nil {
		return s.fail(err, !l.Attach)
	}
	go s.accept(ln)

	exit, err := s.live(e, l, rec, log)
	if err != nil {
		return s.fail(err, !l.Attach)
	}
	if rebooted && exit.Reason == "" {
		exit.Reason, exit.Message = runtime.ReasonKeeperDied, "machine was restarted"
	}
	if err := log.Close(); err != nil {
		s.log.Error("log not synced", "error", err)
	}
	s.finish(exit)
	ln.Close()
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(farewell):
	}
	return nil
}

// live starts the container and waits for its end.
func (s *server) live(e Engine, l *Launch, rec Record, log *joblog.Writer) (runtime.Exit, error) {
	c, err := e.Start(context.Background(), l, log)
	if errors.Is(err, runtime.ErrCommandNotFound) || errors.Is(err, runtime.ErrNotExecutable) {
		exit := runtime.Exit{Code: 127, Reason: runtime.ReasonCommandNotFound, Message: err.Error(), FinishedAt: time.Now().UTC()}
		if errors.Is(err, runtime.ErrNotExecutable) {
			exit.Code, exit.Reason = 126, runtime.ReasonNotExecutable
		}
		return exit, nil
	}
	if err != nil {
		return runtime.Exit{}, err
	}
	rec.StartedAt = c.StartedAt()
	if err := write(s.dir, "keeper.json", rec); err != nil {
		s.log.Error("start time not written", "error", err)
	}
	s.mu.Lock()
	s.container = c
	close(s.started)
	note := s.note
	s.mu.Unlock()
	if l.Attach {
		s.thawForSure() // what a dead keeper left
	}
	if note != nil && !note.Deadline.IsZero() {
		s.stop(time.Until(note.Deadline))
	}
	exit := c.Wait()
	if err := c.Close(); err != nil {
		s.log.Error("not all released", "error", err)
	}
	return exit, nil
}

// fail leaves word for the agent, for which the container then never started.
func (s *server) fail(err error, forget bool) error {
	f := failure{Message: err.Error(), Isolation: errors.Is(err, ErrIsolation)}
	err = errors.Join(err, write(s.dir, "failed.json", f))
	if forget {
		err = errors.Join(err, os.Remove(s.dir.path("keeper.json")))
	}
	return err
}

// finish writes the exit down; without that it must not end.
func (s *server) finish(exit runtime.Exit) {
	if s.noted() == nil {
		time.Sleep(settle)
	}
	n := s.noted()
	exit.ByItself = exit.Reason != runtime.ReasonKeeperDied && exit.Reason != runtime.ReasonRemoved &&
		(n == nil || n.Reason == stopAsked && exit.FinishedAt.Before(n.At))
	for {
		err := write(s.dir, "exit.json", exit)
		if err == nil {
			break
		}
		if errors.Is(err, os.ErrNotExist) { // the directory was removed: nobody wants to know
			s.log.Error("exit not written", "error", err)
			break
		}
		s.log.Error("exit not written, trying again", "error", err)
		time.Sleep(retryEvery)
	}
	close(s.exited)
}

func (s *server) noted() *stopNote {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.note
}

// setNote writes down that we stop the container, before any signal. If the
// disk refuses, this process still knows: the stop must happen anyway.
func (s *server) setNote(reason string, deadline time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.note == nil {
		s.note = &stopNote{At: time.Now().UTC(), Reason: reason}
	} else if s.note.Deadline.IsZero() == deadline.IsZero() && !deadline.Before(s.note.Deadline) {
		return
	}
	if !deadline.IsZero() && (s.note.Deadline.IsZero() || deadline.Before(s.note.Deadline)) {
		s.note.Deadline = deadline
	}
	if err := write(s.dir, "stop.json", s.note); err != nil {
		s.log.Error("stop not noted on disk", "error", err)
	}
}

// stop begins the container's end, or hurries it.
func (s *server) stop(grace time.Duration) {
	s.setNote(stopAsked, time.Now().Add(grace).UTC())
	s.thawForSure()
	s.mu.Lock()
	defer s.mu.Unlock()
	if grace > 0 && !s.terminated {
		s.terminated = true
		ctx, cancel := context.WithTimeout(context.Background(), callWithin)
		defer cancel()
		if err := s.container.Terminate(ctx); err != nil {
			s.log.Error("SIGTERM not sent", "error", err)
		}
	}
	if s.kill != nil {
		s.kill.Stop()
	}
	s.kill = time.AfterFunc(time.Until(s.note.Deadline), s.killForSure)
}

func (s *server) killForSure() {
	s.untilDone("kill", s.container.Kill)
}

func (s *server) thawForSure() {
	s.freezing.end()
	s.untilDone("thaw", s.container.Thaw)
}

// untilDone repeats a call until it succeeds or the container is gone.
func (s *server) untilDone(what string, call func(context.Context) error) {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), callWithin)
		err := call(ctx)
		cancel()
		if err == nil {
			return
		}
		s.log.Error("call failed, trying again", "call", what, "error", err)
		select {
		case <-s.exited:
			return
		case <-time.After(retryEvery):
		}
	}
}

func (s *server) accept(ln net.Listener) {
	for {
		n, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(retryEvery) // out of descriptors, say
			continue
		}
		s.wg.Go(func() {
			defer n.Close()
			s.answer(newConn(n))
		})
	}
}

func (s *server) answer(c *conn) {
	var r request
	if err := c.receive(&r); err != nil {
		return
	}
	select {
	case <-s.started:
	case <-s.exited:
	}
	select {
	case <-s.exited:
		if r.Op == opFreeze {
			c.send(answerOf(runtime.ErrNotRunning))
			return
		}
		c.send(answer{})
		return
	default:
	}
	switch r.Op {
	case opStarted:
	case opWait:
		<-s.exited
	case opStop:
		s.stop(r.Grace)
		<-s.exited
	case opFreeze:
		s.holdFreeze(c)
		return
	case opThaw:
		s.thawForSure()
	default:
		c.send(answer{Code: "failed", Message: "unknown request " + r.Op})
		return
	}
	c.send(answer{})
}
