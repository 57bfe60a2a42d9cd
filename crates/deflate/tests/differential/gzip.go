// Compresses what it is asked to: requests and answers are numbers of four bytes, the lowest first, and bytes.
// A request is a level, the size of the writes (0: one), a length and so many bytes; an answer a length and the member.
package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"os"
)

func main() {
	in, out := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	for {
		var request struct{ Level, Piece, Length uint32 }
		if binary.Read(in, binary.LittleEndian, &request) != nil {
			return
		}
		input := make([]byte, request.Length)
		if _, err := io.ReadFull(in, input); err != nil {
			panic(err)
		}
		var answer bytes.Buffer
		writer, err := gzip.NewWriterLevel(&answer, int(request.Level))
		if err != nil {
			panic(err)
		}
		for piece := int(request.Piece); len(input) > 0; {
			if piece == 0 || piece > len(input) {
				piece = len(input)
			}
			writer.Write(input[:piece])
			input = input[piece:]
		}
		writer.Close()
		binary.Write(out, binary.LittleEndian, uint32(answer.Len()))
		out.Write(answer.Bytes())
		out.Flush()
	}
}
