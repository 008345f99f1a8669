package chaos

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
)

func (s *site) addWorkers() error {
	for i := range s.plan.Workers {
		name := fmt.Sprintf("w%d", i+1)
		env, err := s.linked(name, "WEIR_WORKER_SHARD_ID="+name, "WEIR_WORKER_BATCH_MESSAGES=100", "WEIR_LOG_LEVEL=debug")
		if err != nil {
			return err
		}
		if s.cfg.Failpoints {
			env = append(env, failpoints(s.plan.Seed, i)...)
		}
		s.workers[name] = newKept(name, s.cfg.Program, s.path(name+".log"), env, "worker")
		s.workers[name].held = true
		s.keep(s.workers[name])
	}
	return nil
}

// addAlerters: their grace is short, as the sources are in no hurry to be late by little.
func (s *site) addAlerters() error {
	for i := range alerters {
		name := fmt.Sprintf("a%d", i+1)
		env, err := s.linked(name)
		if err != nil {
			return err
		}
		s.alerters[name] = newKept(name, s.cfg.Program, s.path(name+".log"), env, "alerter", "--grace", "1s")
		s.alerters[name].held = true
		s.keep(s.alerters[name])
	}
	return nil
}

// linked is the environment of a weir with links of its own to the servers.
func (s *site) linked(name string, more ...string) ([]string, error) {
	url, err := s.natsLinks(name)
	if err != nil {
		return nil, err
	}
	database := s.db.url()
	address := database[strings.IndexByte(database, '@')+1:]
	address, _, _ = strings.Cut(address, "/")
	l, err := openLink(name+"-postgres", address)
	if err != nil {
		return nil, err
	}
	s.links[l.name] = append(s.links[l.name], l)
	return s.settings(append(more, "WEIR_NATS_URL="+url, "WEIR_POSTGRES_URL="+strings.Replace(database, address, l.addr(), 1))...), nil
}

// roles are the workers and the alerters.
func (s *site) roles() []*kept {
	return slices.AppendSeq(slices.Collect(maps.Values(s.workers)), maps.Values(s.alerters))
}

func (s *site) startRoles() {
	for _, k := range s.roles() {
		k.signal(syscall.SIGCONT)
		k.release()
	}
}

func (s *site) stopRoles() {
	var all sync.WaitGroup
	for _, k := range s.roles() {
		all.Go(func() { k.stop(syscall.SIGTERM, termTimeout) })
	}
	all.Wait()
}
