// Reads archives from standard input, each behind its length, and lists the members of each as Go's archive/tar sees
// them: one line per member, then a line that says how it ended.
package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sort"
	"strings"
)

var kinds = map[byte]string{
	tar.TypeReg: "f", tar.TypeRegA: "f", tar.TypeCont: "f", tar.TypeGNUSparse: "f",
	tar.TypeLink: "h", tar.TypeSymlink: "l", tar.TypeChar: "c", tar.TypeBlock: "b",
	tar.TypeDir: "d", tar.TypeFifo: "p",
}

func lines(out *bufio.Writer, data []byte) error {
	archive := tar.NewReader(bytes.NewReader(data))
	for {
		header, err := archive.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if header.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		kind, known := kinds[header.Typeflag]
		if !known {
			kind = "?"
		}
		var size int64
		var sum uint32
		if kind == "f" {
			hash := crc32.NewIEEE()
			if size, err = io.Copy(hash, archive); err != nil {
				return err
			}
			if size != header.Size {
				return io.ErrUnexpectedEOF
			}
			sum = hash.Sum32()
		}
		link, major, minor := header.Linkname, int64(0), int64(0)
		if kind != "h" && kind != "l" {
			link = ""
		}
		if kind == "c" || kind == "b" {
			major, minor = header.Devmajor, header.Devminor
		}
		var xattrs []string
		for key, value := range header.PAXRecords {
			if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
				xattrs = append(xattrs, hex.EncodeToString([]byte(name))+"="+hex.EncodeToString([]byte(value)))
			}
		}
		sort.Strings(xattrs)
		fmt.Fprintf(out, "%s\t%x\t%x\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", kind, header.Name, link, size,
			header.Uid, header.Gid, header.Mode&0o7777, header.ModTime.Unix(), major, minor, sum,
			strings.Join(xattrs, ","))
	}
}

func main() {
	source, out := bufio.NewReaderSize(os.Stdin, 1<<20), bufio.NewWriterSize(os.Stdout, 1<<20)
	for {
		var size uint32
		if binary.Read(source, binary.LittleEndian, &size) != nil {
			return
		}
		data := make([]byte, size)
		if _, err := io.ReadFull(source, data); err != nil {
			return
		}
		if err := lines(out, data); err != nil {
			fmt.Fprintf(out, "refused %q\n", err.Error())
		} else {
			fmt.Fprintln(out, "end")
		}
		out.Flush()
	}
}
