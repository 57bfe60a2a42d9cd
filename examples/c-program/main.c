#include "greeting.h"

#include <stdio.h>

int main(int count, char **names) {
    printf("%s", greeting(count - 1));
    for (int at = 1; at < count; at++) printf("%s %s", at == 1 ? "," : " and", names[at]);
    putchar('\n');
    return 0;
}
