// Package lines reads and writes the lines that test partners exchange with the tests: interop/src/partner.rs.
package lines

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// Header is one header of a record; a nil value is null.
type Header struct {
	Name  string
	Value []byte
}

// Record is one line: a nil key or value is null, an empty one is empty.
type Record struct {
	Partition int32
	Offset    int64
	Timestamp int64
	Key       []byte
	Value     []byte
	Headers   []Header
}

// Read parses the records to produce: partition, timestamp, key, value, headers.
func Read(in io.Reader) ([]Record, error) {
	var records []Record
	scanner := bufio.NewScanner(in)
	scanner.Buffer(nil, 64<<20)
	for scanner.Scan() {
		field := strings.Split(scanner.Text(), "\t")
		if len(field) != 5 {
			return nil, fmt.Errorf("%d fields in %q", len(field), scanner.Text())
		}
		partition, err := strconv.ParseInt(field[0], 10, 32)
		if err != nil {
			return nil, err
		}
		timestamp, err := strconv.ParseInt(field[1], 10, 64)
		if err != nil {
			return nil, err
		}
		record := Record{Partition: int32(partition), Timestamp: timestamp}
		record.Key = unhex(field[2])
		record.Value = unhex(field[3])
		if field[4] != "" {
			for _, header := range strings.Split(field[4], ",") {
				name, value, _ := strings.Cut(header, "=")
				record.Headers = append(record.Headers, Header{string(unhex(name)), unhex(value)})
			}
		}
		records = append(records, record)
	}
	return records, scanner.Err()
}

// Write prints a consumed record: partition, offset, timestamp, key, value, headers.
func Write(out io.Writer, r Record) {
	var headers []string
	for _, h := range r.Headers {
		headers = append(headers, tohex([]byte(h.Name))+"="+tohex(h.Value))
	}
	fmt.Fprintf(out, "%d\t%d\t%d\t%s\t%s\t%s\n",
		r.Partition, r.Offset, r.Timestamp, tohex(r.Key), tohex(r.Value), strings.Join(headers, ","))
}

// Check ends the program with an error.
func Check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Eventually asks until the answer is yes, for ten seconds at most: real Kafka says that a topic is created before every
// part of it knows.
func Eventually(ask func() bool) bool {
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		if ask() {
			return true
		}
	}
	return false
}

// Number parses a number on the command line.
func Number(text string) int {
	n, err := strconv.Atoi(text)
	Check(err)
	return n
}

func tohex(b []byte) string {
	if b == nil {
		return "-"
	}
	return hex.EncodeToString(b)
}

func unhex(text string) []byte {
	if text == "-" {
		return nil
	}
	b, err := hex.DecodeString(text)
	Check(err)
	if b == nil {
		b = []byte{}
	}
	return b
}
