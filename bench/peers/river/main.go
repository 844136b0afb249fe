// One run of River: river WORK OPTIONS prints its result as a line of JSON. River keeps what is completed.
// https://pkg.go.dev/github.com/riverqueue/river#Config has the settings; its own bench has nearly these:
// https://github.com/riverqueue/river/blob/master/cmd/river/riverbench/river_bench.go
package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

type note struct {
	N int `json:"n"`
}

func (note) Kind() string { return "note" }

func main() {
	var options struct {
		URL   string
		Tasks int
	}
	check(json.Unmarshal([]byte(os.Args[2]), &options))
	ctx := context.Background()
	pool := must(pgxpool.New(ctx, options.URL+"?pool_max_conns=10"))
	driver := riverpgxv5.New(pool)
	must(must(rivermigrate.New(driver, nil)).Migrate(ctx, rivermigrate.DirectionUp, nil))
	var seen atomic.Int64
	all := make(chan struct{})
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(context.Context, *river.Job[note]) error {
		if seen.Add(1) == int64(options.Tasks) {
			close(all)
		}
		return nil
	}))
	client := must(river.NewClient(driver, &river.Config{
		FetchCooldown:     time.Millisecond,
		FetchPollInterval: 20 * time.Millisecond,
		Logger:            slog.New(slog.DiscardHandler),
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 1000}},
		Workers:           workers,
	}))

	query := func(text string) (value float64) {
		check(pool.QueryRow(ctx, text).Scan(&value))
		return value
	}
	wal := "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8"
	must(pool.Exec(ctx, "checkpoint"))
	walStart := query(wal)
	filling := time.Now()
	for from := 0; from < options.Tasks; from += 1000 {
		batch := []river.InsertManyParams{}
		for n := from; n < min(from+1000, options.Tasks); n++ {
			batch = append(batch, river.InsertManyParams{Args: note{n}})
		}
		must(client.InsertManyFast(ctx, batch))
	}
	filled := time.Since(filling)
	must(pool.Exec(ctx, "vacuum (analyze)"))
	cpuStart := cpuMicros()
	check(client.Start(ctx))
	started := time.Now()
	<-all
	for query("select exists (select from river_job where state <> 'completed')::int::float8") > 0 {
		time.Sleep(5 * time.Millisecond)
	}
	drained, cpu := time.Since(started), cpuMicros()-cpuStart
	tasks := float64(options.Tasks)
	check(json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"perSecond":         tasks / drained.Seconds(),
		"enqueuedPerSecond": tasks / filled.Seconds(),
		"cpuMicrosPerTask":  cpu / tasks,
		"walBytesPerTask":   (query(wal) - walStart) / tasks,
	}))
	check(client.Stop(ctx))
}

func cpuMicros() float64 {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1000
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}
