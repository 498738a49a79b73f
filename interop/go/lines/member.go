package lines

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Joining has the arguments of `member`: interop/src/member.rs.
type Joining struct {
	Brokers   []string
	Group     string
	Topic     string
	Protocols []string
	Session   time.Duration
	Heartbeat time.Duration
	Instance  string
}

// Join reads the arguments after the word `member`.
func Join(args []string) Joining {
	joining := Joining{
		Brokers:   strings.Split(args[0], ","),
		Group:     args[1],
		Topic:     args[2],
		Protocols: strings.Split(args[3], ","),
		Session:   time.Duration(Number(args[4])) * time.Millisecond,
		Heartbeat: time.Duration(Number(args[5])) * time.Millisecond,
	}
	if args[6] != "-" {
		joining.Instance = args[6]
	}
	return joining
}

// Told is closed when the member is told to leave: its standard input ends.
func Told() <-chan struct{} {
	told := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(told)
	}()
	return told
}

// Journal prints what a member sees. It may be used from several goroutines.
type Journal struct {
	lock sync.Mutex
	out  *bufio.Writer
}

// NewJournal prints to standard output.
func NewJournal() *Journal {
	return &Journal{out: bufio.NewWriterSize(os.Stdout, 1<<16)}
}

// Say prints a line with the time, at once.
func (j *Journal) Say(words ...string) {
	j.lock.Lock()
	defer j.lock.Unlock()
	j.line(words...)
	Check(j.out.Flush())
}

// Partitions prints a line about partitions, at once.
func (j *Journal) Partitions(what string, partitions []int32) {
	slices.Sort(partitions)
	var numbers []string
	for _, partition := range partitions {
		numbers = append(numbers, strconv.Itoa(int(partition)))
	}
	j.Say(what, strings.Join(numbers, ","))
}

// Record prints a record with the next line that is printed at once.
func (j *Journal) Record(partition int32, offset int64, value []byte) {
	j.lock.Lock()
	defer j.lock.Unlock()
	j.line("record", strconv.Itoa(int(partition)), strconv.FormatInt(offset, 10), string(value))
}

// Committed prints that the offset is committed.
func (j *Journal) Committed(partition int32, offset int64) {
	j.Say("committed", strconv.Itoa(int(partition)), strconv.FormatInt(offset, 10))
}

// Flush prints the records.
func (j *Journal) Flush() {
	j.lock.Lock()
	defer j.lock.Unlock()
	Check(j.out.Flush())
}

func (j *Journal) line(words ...string) {
	fmt.Fprintf(j.out, "%d\t%s\n", time.Now().UnixMicro(), strings.Join(words, "\t"))
}
