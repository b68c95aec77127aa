/* lua SCRIPT [ARG...] */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    lua_State *l = luaL_newstate();

    luaL_openlibs(l);
    lua_createtable(l, argc, 0);
    for (int i = 1; i < argc; i++) {
        lua_pushstring(l, argv[i]);
        lua_rawseti(l, -2, i - 1);
    }
    lua_setglobal(l, "arg");
    if (argc < 2 || luaL_dofile(l, argv[1])) {
        printf("%s\n", lua_tostring(l, -1));
        return 1;
    }
    int status = (int)lua_tointeger(l, -1);

    lua_close(l);
    return status;
}
