package store

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

func TestDeadLetters_KeepAnyBytes(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	stored := time.Date(2024, 5, 17, 12, 0, 0, 123456000, time.FixedZone("", 3600))
	letters := []DeadLetter{
		{Reason: "plain", Source: "gw", Subject: "events.request.gw", MsgID: "gw/e/1", Sequence: 7, Offset: -1, StoredAt: stored, Payload: []byte("{}")},
		{Reason: "bad \xff, NUL \x00", Source: "\x00", Subject: "events.\xfe.\x00", MsgID: "\xff\x00", Offset: 65_535, StoredAt: stored, Payload: []byte("\x00\xff\\x\n'")},
		{Reason: `{"a"} NULL \N`, StoredAt: stored},
	}
	write := func(letters []DeadLetter) {
		t.Helper()
		if err := db.InTx(t.Context(), func(tx *Tx) error { return tx.WriteDeadLetters(t.Context(), "s1", letters) }); err != nil {
			t.Fatal(err)
		}
	}
	write(nil)
	write(letters)
	got, err := db.DeadLetters(t.Context(), DeadLetterFilter{Limit: 10})
	if err != nil || len(got) != 3 {
		t.Fatalf("got %d letters, %v", len(got), err)
	}
	bad := got[1] // newest first
	if bad.Reason != "bad \uFFFD, NUL \uFFFD" || bad.Source != "\uFFFD" || bad.Subject != "events.\uFFFD.\uFFFD" || bad.MsgID != "\uFFFD\uFFFD" ||
		bad.Offset != 65_535 || !bytes.Equal(bad.Payload, letters[1].Payload) {
		t.Errorf("got %+v", bad)
	}
	if got[0].Reason != letters[2].Reason || len(got[0].Payload) != 0 {
		t.Errorf("got %+v", got[0])
	}
	one, err := db.DeadLetter(t.Context(), got[2].ID)
	if err != nil || one.Subject != "events.request.gw" || one.MsgID != "gw/e/1" || one.Sequence != 7 || one.Offset != -1 || !one.StoredAt.Equal(stored) ||
		one.ShardID != "s1" || one.At.IsZero() {
		t.Errorf("got %+v, %v", one, err)
	}
	if newest, err := db.DeadLetters(t.Context(), DeadLetterFilter{Limit: 1}); err != nil || len(newest) != 1 || newest[0].ID != got[0].ID {
		t.Errorf("the newest: %+v, %v", newest, err)
	}
}

func TestDeadLetter_UnknownIDIsTold(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	if _, err := db.DeadLetter(t.Context(), 99); !errors.Is(err, ErrNoDeadLetter) {
		t.Errorf("got %v", err)
	}
}

func TestDeadLetters_VanishWithTheirTransaction(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	err := db.InTx(t.Context(), func(tx *Tx) error {
		return errors.Join(tx.WriteDeadLetters(t.Context(), "s", []DeadLetter{{Reason: "r", StoredAt: time.Now()}}), errUndo)
	})
	if got, listErr := db.DeadLetters(t.Context(), DeadLetterFilter{Limit: 10}); !errors.Is(err, errUndo) || listErr != nil || len(got) != 0 {
		t.Errorf("got %+v, %v, %v", got, err, listErr)
	}
}
